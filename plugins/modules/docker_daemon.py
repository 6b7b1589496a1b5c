#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: docker_daemon
short_description: Merges settings into the Docker engine's daemon.json and restarts the engine safely
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Merges O(settings) into C(daemon.json). Keys that are not named are kept, so several roles and a person can share the file.
    A file that already means the same is not touched, whatever its order and its formatting.
  - A file that cannot be read as a JSON object is kept as it is, and the module fails with the line and the column.
  - Before the new file goes live, C(dockerd --validate) reads it (Docker 23.0 and later), and keys that are also flags of
    C(docker.service) are refused by name, because the engine does not start with them.
  - With O(restart=changed), an engine that runs is restarted and has to answer within O(timeout). If it does not, the previous file
    comes back, the engine is restarted with it, and the module fails with the last lines of the journal. A run that was cut off in
    the middle is completed, or taken back, by the next one.
  - A new value of C(live-restore) is adopted by the running engine before its restart, so that switching it on already keeps the
    containers running.
attributes:
  check_mode:
    description: Tells what would change, and refuses what the real run would refuse.
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
      - With O(state=absent), the keys to remove, whatever their values.
    type: dict
    required: true
  state:
    description:
      - V(absent) removes the keys that O(settings) names, and the file when nothing is left in it (to the engine an empty object
        and a missing file are the same).
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
- name: Rotate the logs of containers and let these survive a restart of the engine
  forja.gpu.docker_daemon:
    settings:
      live-restore: true
      log-driver: json-file
      log-opts: {max-size: 10m, max-file: "3"}

- name: Drop a setting and leave the restart to somebody else
  forja.gpu.docker_daemon:
    settings: {default-runtime: null}
    restart: never
"""

RETURN = r"""
path:
  description: The configuration file.
  returned: success
  type: str
before:
  description: What the file said, without passwords.
  returned: success
  type: dict
after:
  description: What the file says now, without passwords.
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
engine_version:
  description: The version that the engine answers with, empty where none runs.
  returned: success
  type: str
  sample: 26.1.5
at_boot:
  description: Whether the engine starts when the host boots.
  returned: success
  type: bool
notes:
  description: What a person should know, such as why the engine was not restarted.
  returned: success
  type: list
  elements: str
"""

import os
import tempfile
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.docker.config import Config, Plan, keys_of_flags, mask, parse, plan, refuse_conflicts, render
from ..module_utils.forja.docker.engine import PREVIOUS, UNIT, Engine, Unit, ask, inspect, socket_of, validate, write_and_restart
from ..module_utils.forja.host import atomic as atomic_file
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import Run, module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "settings": {"type": "dict", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "path": {"type": "path", "default": "/etc/docker/daemon.json"},
        "restart": {"type": "str", "choices": ["never", "changed"], "default": "changed"},
        "timeout": {"type": "int", "default": 60},
    }


def examine(run: Run, unit: Unit, todo: Plan, path: str, folder: str) -> List[str]:
    """Refuses a file with which the engine would not start; returns notes on what could not be told."""
    refuse_conflicts(todo.after, keys_of_flags(unit.argv), path)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".json") as draft:
        draft.write(render(todo.after))
        draft.flush()
        notes = [validate(run, draft.name, path)]
    read = [word.partition("=")[2] for word in unit.argv if word.startswith("--config-file=")]
    if read and os.path.realpath(read[0]) != os.path.realpath(path):
        notes.append(f"{UNIT} reads {read[0]}, not {path}")
    return notes


def engine_of(run: Run, config: Config, unit: Unit) -> Engine:
    return Engine(run, ask, time.sleep, time.monotonic, socket_of(config, unit.argv))


def shown(config: Config) -> str:
    return render(config).decode() if config else ""


class State(NamedTuple):
    content: Optional[bytes]
    config: Config
    interrupted: bool  # a run that was killed owes the restart
    unit: Unit


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    path, settings, state = module.params["path"], module.params["settings"], module.params["state"]
    module.params["settings"] = mask(settings)  # the invocation is shown with -vvv
    run, may_restart, notes = module_run(module), module.params["restart"] == "changed", []

    def read() -> State:
        content = atomic_file.read(path)
        return State(content, parse(content, path), atomic_file.read(path + PREVIOUS) is not None, inspect(run))

    def restarts(found: State) -> bool:
        return may_restart and (found.interrupted or found.unit.active and bool(plan(found.config, settings, state, path).steps))

    def steps_of(found: State) -> List[str]:
        late = ", which the last run was cut off from" if found.interrupted else ""
        return plan(found.config, settings, state, path).steps + ([f"restart {UNIT}{late}"] if restarts(found) else [])

    def apply(found: State, _: List[str]) -> None:
        todo = plan(found.config, settings, state, path)
        notes.extend(examine(run, found.unit, todo, path, module.tmpdir) if todo.steps else [])
        content = None if state == "absent" and not todo.after else render(todo.after) if todo.steps else found.content
        if restarts(found):
            engine = engine_of(run, todo.after, found.unit)
            notes.append(write_and_restart(engine, path, content, module.params["timeout"], todo.after.get("live-restore"))[1])
        else:
            atomic_file.replace(path, content)

    try:
        outcome = converge(read, steps_of, apply, module.check_mode)
        found, unit = outcome.before, outcome.after.unit
        todo = plan(found.config, settings, state, path)
        if todo.steps and module.check_mode:
            notes = examine(run, unit, todo, path, module.tmpdir)
        # Asking a socket that systemd listens on would start an engine that is stopped.
        version = engine_of(run, outcome.after.config, unit).version() if unit.active else ""
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    if todo.steps and may_restart and not found.unit.active:
        notes.append(found.unit.note)
    before, after = mask(todo.before), mask(todo.after)
    module.exit_json(
        changed=outcome.changed, path=path, before=before, after=after, steps=outcome.steps,
        restarted=restarts(found) and not module.check_mode, engine_version=version, at_boot=unit.at_boot,
        notes=[note for note in notes if note],
        diff={"before_header": path, "after_header": path, "before": shown(before), "after": shown(after)},
    )


if __name__ == "__main__":
    main()
