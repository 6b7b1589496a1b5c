#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: systemd_unit
short_description: Manage a unit file of systemd, with a way back
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Writes a unit file to C(/etc/systemd/system) after C(systemd-analyze verify) has accepted it, and reloads systemd. The unit is not
    restarted.
  - Keeps the unit's files as they were while the unit ran with them, in C(/run/forja), and puts them back with V(state=restored) when
    the new ones do not work. The files are the unit file, its drop-ins in C(/etc/systemd/system/<unit>.d), and those of O(keep).
  - A run that was interrupted before the restart does not replace the files that worked. A reboot forgets them.
attributes:
  check_mode:
    description: Predicts the steps; the unit file is verified too.
    support: full
  diff_mode:
    description: Shows the unit file before and after.
    support: full
options:
  unit:
    description: The unit with its suffix.
    type: str
    required: true
  content:
    description: The text of the unit file. Required with V(state=present).
    type: str
  keep:
    description: Further files without which the former unit would not work.
    type: list
    elements: path
    default: []
  state:
    description:
      - V(absent) removes the unit file. Stop and disable the unit before.
      - V(restored) puts the former files back and starts the unit with them, if it ran.
    type: str
    choices: [present, absent, restored]
    default: present
"""

EXAMPLES = r"""
- name: Run the service with new settings, or with the former ones
  block:
    - name: Install the unit
      forja.gpu.systemd_unit:
        unit: ollama.service
        content: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"

    - name: Restart the service
      forja.gpu.systemd_service_up:
        name: ollama.service
        restart: true
  rescue:
    - name: Restore the former unit
      forja.gpu.systemd_unit:
        unit: ollama.service
        state: restored
"""

RETURN = r"""
path:
  description: The unit file.
  returned: success
  type: str
  sample: /etc/systemd/system/ollama.service
steps:
  description: What was done, or would be done in check mode; empty if nothing changed.
  returned: success
  type: list
  elements: str
restart_pending:
  description: Whether the unit runs with older files than those on disk.
  returned: success
  type: bool
running:
  description: Whether the unit is active at the end.
  returned: success
  type: bool
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.systemd import paths
from ..module_utils.forja.systemd.manager import Manager, clock
from ..module_utils.forja.systemd.unit_apply import Unit, apply, diff, gather, keep, pending, plan


def argument_spec() -> Dict[str, Any]:
    return {
        "unit": {"type": "str", "required": True},
        "content": {"type": "str"},
        "keep": {"type": "list", "elements": "path", "default": []},
        "state": {"type": "str", "choices": ["present", "absent", "restored"], "default": "present"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["content"])])
    # systemd-analyze must say everything on stderr; times are in UTC.
    run = module_run(module, TZ="UTC", SYSTEMD_PAGER="", SYSTEMD_COLORS="0", SYSTEMD_LOG_LEVEL="info", SYSTEMD_LOG_TARGET="console")
    params = module.params
    try:
        paths.check_unit(params["unit"])
        unit = Unit(paths.place("system", "/", 0, 0, "/root"), Manager(run), run, params["unit"], params["content"], params["keep"],
                    params["state"], module.get_bin_path("systemd-analyze"))
        if not module.check_mode:
            keep(unit, clock())
        outcome = converge(
            lambda: gather(unit),
            lambda state: plan(unit, state),
            lambda state, steps: apply(unit, state, steps),
            module.check_mode,
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=outcome.changed, path=unit.path, steps=outcome.steps, diff=diff(unit, outcome.before),
                     restart_pending=pending(unit, clock()), running=outcome.after.running)


if __name__ == "__main__":
    main()
