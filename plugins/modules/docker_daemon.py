#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: docker_daemon
short_description: Merges settings into the Docker engine's daemon.json and restarts the engine safely
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Merges O(settings) and O(defaults) into C(daemon.json). Keys that are not named are kept, so several roles and a person can share
    the file. A file that already means the same is not touched, whatever its order and its formatting.
  - A file that is not a JSON object, that names a key twice or holds a number out of range, is kept as it is, and the module fails
    with the place or the key.
  - Before the new file goes live, C(dockerd --validate) reads it (Docker 23.0 and later). Keys that are also flags of
    C(docker.service), and log options that the log driver does not know, are refused by name, because the engine does not start
    with them.
  - With O(restart=changed), an engine that runs is restarted and has to answer within O(timeout). If it does not, the previous file
    comes back, the engine is restarted with it, and the module fails with the last lines of the journal. The next run completes an
    interrupted run, or rolls it back.
  - A new value of C(live-restore) is adopted by the running engine before its restart, so that switching it on already keeps the
    containers running.
  - Without O(settings) and O(defaults), the module changes nothing and returns what is effective.
attributes:
  check_mode:
    description: Predicts the changes, and refuses what the real run would refuse.
    support: full
  diff_mode:
    description: Shows the file before and after, without the passwords that addresses carry.
    support: full
options:
  settings:
    description:
      - The settings as C(daemon.json) names them. Objects merge, V(null) removes a key, and everything else replaces what is there.
        Lists replace as well, because the order of C(dns) or C(registry-mirrors) means something (this is a JSON merge patch,
        RFC 7396).
      - A new C(log-driver) drops the options of the one before it, unless O(settings) names them.
      - With O(state=absent), the keys to remove, whatever their values.
    type: dict
    default: {}
  defaults:
    description:
      - Settings that count only where neither O(settings), nor the file, nor a flag of C(docker.service) sets the key. To a list
        that exists, the missing elements are added.
      - C(log-opts) are left out where the effective log driver does not know them, C(live-restore) on a node of a swarm.
      - With O(state=absent), what is removed where the file has this very value.
    type: dict
    default: {}
  state:
    description:
      - V(absent) removes the keys of O(settings) and O(defaults), and the file when nothing is left in it (to the engine an empty
        object and a missing file are the same).
    type: str
    choices: [present, absent]
    default: present
  path:
    description: The configuration file. A new one gets mode 0644, an existing one keeps its owner and mode.
    type: path
    default: /etc/docker/daemon.json
  restart:
    description: Whether to restart an engine that runs once the file changed.
    type: str
    choices: [never, changed]
    default: changed
  timeout:
    description: Seconds that the engine gets to answer after a restart.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Keep containers over restarts of the engine, and rotate their logs unless somebody chose a log driver
  forja.gpu.docker_daemon:
    settings:
      live-restore: true
    defaults:
      log-driver: json-file
      log-opts: {max-size: 10m, max-file: "3"}

- name: Remove a setting and leave the restart to somebody else
  forja.gpu.docker_daemon:
    settings: {default-runtime: null}
    restart: never

- name: Read what is effective
  forja.gpu.docker_daemon: {}
  register: docker
"""

RETURN = r"""
path:
  description: The configuration file.
  returned: success
  type: str
before:
  description: The content of the file before, without passwords.
  returned: success
  type: dict
after:
  description: The content of the file after, without passwords.
  returned: success
  type: dict
steps:
  description: What was done, or would be done in check mode. Empty when nothing changed.
  returned: success
  type: list
  elements: str
restarted:
  description: Whether the engine was restarted.
  returned: success
  type: bool
engine:
  description: What the running engine says of itself, empty where none runs or answers.
  returned: success
  type: dict
  contains:
    version:
      description: The version that the engine answers with.
      type: str
      sample: 26.1.5
    data_root:
      description: The folder of volumes and containers.
      type: str
    live_restore:
      description: Whether containers keep running while the engine restarts.
      type: bool
    log_driver:
      description: The log driver of new containers.
      type: str
    image_store:
      description: V(containerd) where images are in containerd's own folder (RV(containerd_root)), V(engine) where they are in data_root.
      type: str
    swarm:
      description: Whether the engine is a node of a swarm.
      type: bool
at_boot:
  description: Whether the engine starts when the host boots.
  returned: success
  type: bool
flags:
  description: Keys of C(daemon.json) that flags of C(docker.service) set, with the flag as it is written.
  returned: success
  type: dict
  sample: {hosts: "-H fd://"}
endpoints:
  description: The addresses on which the engine listens, or will listen when it starts.
  returned: success
  type: list
  elements: str
data_root:
  description: The folder that the settings name for volumes and containers, also where no engine runs.
  returned: success
  type: str
containerd_root:
  description: The folder of containerd.
  returned: success
  type: str
other_engines:
  description: Docker Desktop and Docker from a snap, one sentence each with what to do about it.
  returned: success
  type: list
  elements: str
notes:
  description: What a person should know, such as which default a flag overrides, or why the engine was not restarted.
  returned: success
  type: list
  elements: str
"""

import time
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.docker.config import Config, mask, render
from ..module_utils.forja.docker.daemon import Daemon, containerd_root
from ..module_utils.forja.docker.engine import ask
from ..module_utils.forja.docker.flags import endpoints
from ..module_utils.forja.docker.others import other_engines
from ..module_utils.forja.docker.settings import Request, data_root, effective
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "settings": {"type": "dict", "default": {}},
        "defaults": {"type": "dict", "default": {}},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "path": {"type": "path", "default": "/etc/docker/daemon.json"},
        "restart": {"type": "str", "choices": ["never", "changed"], "default": "changed"},
        "timeout": {"type": "int", "default": 60},
    }


def shown(config: Config) -> str:
    return render(config).decode() if config else ""


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    values = module.params
    request = Request(values["settings"], values["defaults"], values["state"])
    values["settings"], values["defaults"] = mask(request.settings), mask(request.defaults)  # the invocation is shown with -vvv
    daemon = Daemon(module_run(module), ask, time.sleep, time.monotonic, values["path"], request,
                    values["restart"] == "changed", values["timeout"])
    try:
        first = daemon.gather()
        daemon.check(first, module.tmpdir)
        outcome = converge(daemon.gather, daemon.steps, daemon.apply, module.check_mode)
        todo, flags = daemon.todo(first), outcome.after.unit.flags
        before, after = mask(todo.before), mask(todo.after)
        module.exit_json(
            changed=outcome.changed, steps=outcome.steps, path=values["path"], before=before, after=after, restarted=daemon.restarted,
            engine=effective(outcome.after.info), at_boot=outcome.after.unit.at_boot,
            flags={key: " ".join((flag.name, *map(mask, flag.values))) for key, flag in flags.items()},
            endpoints=endpoints(todo.after, flags),
            data_root=data_root(todo.after, request, flags), containerd_root=containerd_root(),
            other_engines=other_engines(HostFiles()), notes=[note for note in daemon.notes if note],
            diff={"before_header": values["path"], "after_header": values["path"], "before": shown(before), "after": shown(after)},
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
