#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: systemd_dropin
short_description: Manage a drop-in file of a systemd unit
version_added: "0.1.0"
description:
  - Writes settings for a systemd unit to a drop-in file of its own, C(/etc/systemd/system/<unit>.d/<name>.conf), and leaves the
    unit's own file and the drop-ins of others alone.
  - Compares meanings and not bytes. Comments, blank lines, quoting, continued lines and the order of unrelated settings do not matter;
    the order of repeated settings does.
  - Asks C(systemd-analyze verify) before the file goes live. A setting that systemd would ignore fails the task with systemd's own
    words, and the previous file stays.
  - Warns of what keeps a setting from taking effect - a later drop-in for this unit, its prefix, its template or its type, a file of
    the same name in a more important folder, an C(EnvironmentFile), a masked unit - with the name of that file.
  - Works with systemd 229 to 257, and manages the files where no systemd is running.
author:
  - The Forja authors (@forja)
attributes:
  check_mode:
    description: Predicts exactly the steps of the real run; the settings are verified too.
    support: full
  diff_mode:
    description: Shows each file that is written or removed, before and after.
    support: full
options:
  unit:
    description:
      - The unit with its suffix. An instance (C(foo@bar.service)) and a template (C(foo@.service)) are units too.
      - It does not have to be installed yet.
    type: str
    required: true
  name:
    description:
      - The name of the drop-in file without C(.conf).
      - A file of that name that this module has not written - its first line says so - is neither changed nor removed.
    type: str
    default: forja
  order:
    description:
      - A number from 0 to 99 before the name, two digits wide, as C(20-forja.conf). systemd reads drop-ins by name and later ones win.
      - When it changes, the file of the former number goes away.
    type: int
  settings:
    description:
      - Sections, in them keys, in them values, in systemd's own syntax.
      - A boolean becomes C(yes) or C(no). A list repeats the key. An empty string resets a setting or a list, as in systemd. A null is
        refused.
    type: dict
    default: {}
  environment:
    description:
      - Variables for the unit's programs, as C(Environment=) lines. The text arrives as it is given, quoted as systemd needs it.
      - Every user of the host can read it. Secrets belong into a file with mode 0600, named in C(EnvironmentFile=).
    type: dict
    default: {}
  scope:
    description:
      - C(system) for the host's units, C(user) for those of the user who runs the task, under C(~/.config/systemd/user), C(global) for
        those of all users, under C(/etc/systemd/user).
      - With C(global) nothing is reloaded or restarted.
    type: str
    choices: [system, user, global]
    default: system
  state:
    description:
      - With C(absent) the file goes away whatever its order, and the C(<unit>.d) directory if it is empty then.
    type: str
    choices: [present, absent]
    default: present
  reload:
    description:
      - Whether systemd reads its unit files again after a change.
      - With some versions of the NVIDIA container runtime a reload takes the GPUs away from running containers.
    type: bool
    default: true
  restart:
    description:
      - With C(changed) the unit is restarted after a change if it is running; for a template, its running instances. Needs O(reload).
      - A service that is not up a second after its restart has failed. The previous file then comes back, the unit is started with it,
        and the task fails with the unit's last journal lines.
      - A run that was cut off between the change and the restart is made up for by the next one.
    type: str
    choices: [never, changed]
    default: never
  validate:
    description:
      - Whether C(systemd-analyze verify) has to accept the settings. Without that program they are not checked, and a note says so.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Let Ollama listen for the containers of this host
  forja.gpu.systemd_dropin:
    unit: ollama.service
    environment:
      OLLAMA_HOST: 172.17.0.1:11434
      OLLAMA_MODELS: /srv/models
    restart: changed

- name: Start slurmd after the GPUs are there, with another command
  forja.gpu.systemd_dropin:
    unit: slurmd.service
    order: 20
    settings:
      Unit:
        After: nvidia-persistenced.service
        ConditionPathExists: /dev/nvidia0
      Service:
        ExecStart: ["", /usr/sbin/slurmd -D --conf-server controller]
        LimitMEMLOCK: infinity
        Delegate: true

- name: Take it back
  forja.gpu.systemd_dropin:
    unit: slurmd.service
    state: absent
"""

RETURN = r"""
path:
  description: The drop-in file.
  returned: success
  type: str
  sample: /etc/systemd/system/ollama.service.d/forja.conf
steps:
  description: What was done, in check mode what would be done; empty if nothing changed.
  returned: always, except for wrong parameters
  type: list
  elements: str
  sample: [rewrite /etc/systemd/system/ollama.service.d/forja.conf, make systemd read its unit files again, restart ollama.service]
notes:
  description: What else to know, for example that the unit is not installed yet or that no systemd is running.
  returned: success
  type: list
  elements: str
effective:
  description:
    - What systemd uses for each key of O(settings) and O(environment), section by section, as C(systemctl show) prints the property that
      belongs to the key. That is C(<name>USec) for C(<name>Sec) and the key's own name for most others.
    - It is systemd's spelling, with what other files add or override. C(1s) stands for C(1000ms), a list holds the unit's whole list.
    - Null for keys that C(systemctl show) does not print (conditions, C([Install]), old names), for templates, and without a systemd.
    - In check mode this is what systemd uses now.
  returned: success
  type: dict
  sample: {Service: {RestartSec: 5s, Environment: "OLLAMA_HOST=172.17.0.1:11434"}}
restart_pending:
  description:
    - Whether the unit runs with older settings. Either a file of it changed since systemd read it, or this drop-in is newer than the
      unit's start. Always false where no systemd is running.
    - A drop-in that was removed in an earlier run leaves no trace to see this by.
  returned: success
  type: bool
units:
  description: The unit, or those of its instances that are loaded, as systemd knows them now. Empty where no systemd is running.
  returned: success
  type: list
  elements: dict
  sample: [{name: ollama.service, active_state: active, main_pid: 4711}]
"""

import os
import pwd
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.systemd import dropin
from ..module_utils.forja.systemd import overrides as unit_overrides
from ..module_utils.forja.systemd import paths as unit_paths
from ..module_utils.forja.systemd import verify as unit_verify
from ..module_utils.forja.systemd.dropin_apply import Host, apply
from ..module_utils.forja.systemd.manager import Manager, clock

ROOT = "/"  # tests put a folder of their own here


def argument_spec() -> Dict[str, Any]:
    return {
        "unit": {"type": "str", "required": True},
        "name": {"type": "str", "default": "forja"},
        "order": {"type": "int"},
        "settings": {"type": "dict", "default": {}},
        "environment": {"type": "dict", "default": {}},
        "scope": {"type": "str", "choices": ["system", "user", "global"], "default": "system"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "reload": {"type": "bool", "default": True},
        "restart": {"type": "str", "choices": ["never", "changed"], "default": "never"},
        "validate": {"type": "bool", "default": True},
    }


def host_for(module: AnsibleModule) -> Host:
    scope, user = module.params["scope"], pwd.getpwuid(os.getuid())
    place = unit_paths.place(scope, ROOT, user.pw_uid, user.pw_gid, user.pw_dir)
    # UTC for the stamps that are read, and systemd-analyze must report everything on stderr.
    environment = {"TZ": "UTC", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "info", "SYSTEMD_LOG_TARGET": "console"}
    if scope == "user":
        environment["XDG_RUNTIME_DIR"] = place.runtime

    def own(path: str, mode: int) -> None:
        module.set_mode_if_different(path, mode, False)
        module.set_owner_if_different(path, place.uid, False)
        module.set_group_if_different(path, place.gid, False)
        module.set_context_if_different(path, module.selinux_default_context(path), False)

    return Host(place, Manager(module_run(module, **environment), scope == "user"), module.atomic_move, own)


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params, host = module.params, host_for(module)
    place, manager = host.place, host.manager
    steps: List[dropin.Step] = []
    verified: List[str] = []

    def plan(found: dropin.Found) -> List[dropin.Step]:
        planned = dropin.plan(found, goal, place)
        steps.extend([] if steps else planned)
        return planned

    def verify(planned: List[dropin.Step]) -> None:
        if params["validate"] and any(step.action == "write" for step in planned):
            leaving = [step.target for step in planned if step.action == "remove"]
            verified.extend(unit_verify.verify(manager.run, module.get_bin_path("systemd-analyze"), goal.unit, goal.path, goal.text,
                                               unit_paths.fragment(place, goal.unit), place.scope != "system", leaving))

    def change(found: dropin.Found, planned: List[dropin.Step]) -> None:
        verify(planned)
        apply(host, goal, found, planned)

    try:
        goal = dropin.want(place, params["unit"], params["name"], params["order"], params["settings"], params["environment"],
                           params["state"] == "present", params["reload"], params["restart"] == "changed")
        outcome = converge(lambda: dropin.gather(place, manager, goal), plan, change, module.check_mode, lambda step: step.text)
        if module.check_mode:
            verify(outcome.steps)
        if goal.entries:
            leaving = [step.target for step in steps if step.action == "remove"]
            for warning in unit_overrides.warnings(place, goal.unit, goal.path, goal.entries, goal.booleans, leaving):
                module.warn(warning)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error), steps=[step.text for step in steps])
        return
    before, after = outcome.before, outcome.after
    module.exit_json(changed=outcome.changed, diff=dropin.diff(before, goal, steps), path=goal.path, steps=[step.text for step in steps],
                     notes=dropin.notes(before, goal, steps) + verified, effective=dropin.effective(after, goal),
                     restart_pending=dropin.restart_pending(after, steps, clock()), units=dropin.states(after))


if __name__ == "__main__":
    main()
