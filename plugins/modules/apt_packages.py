#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: apt_packages
short_description: Installs and removes packages in one transaction that removes nothing unnamed
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Brings a host to having O(present) and not having O(absent) in one transaction of apt, so that a package and the one that
    replaces it change places only once everything is downloaded. C(ansible.builtin.apt) needs two tasks for this and leaves a host
    with neither when the second fails.
  - Refuses a transaction that would remove a package which O(absent) does not name. Dependencies that came only for the removed
    packages go with them; recommended packages are not installed.
  - Refreshes apt's lists only when apt does not know a package, or when the lists name files that the mirror has no more.
  - Completes what an earlier run of dpkg was interrupted in, and waits for another apt on the host.
  - In check mode it also answers on a host without python3-apt, and before the repository that holds the packages was added.
attributes:
  check_mode:
    description: Tells what would change; where apt knows the packages, after a simulation by apt.
    support: full
  diff_mode:
    description: Shows the installed versions before, and what is wanted of them.
    support: full
options:
  present:
    description:
      - Packages to install. Any installed version is fine unless a pattern follows, as in V(docker-ce=5:29.6.1*); then the newest
        version that matches is installed, a downgrade included.
    type: list
    elements: str
    default: []
  absent:
    description: Packages to remove. Their configuration files and data stay.
    type: list
    elements: str
    default: []
  refuse:
    description: Packages with which the module fails, for what stands in the way but was a person's choice.
    type: list
    elements: str
    default: []
  hold_removals:
    description:
      - Leaves everything as it is where a package of O(absent) is installed, and names those in RV(held). For a first call, so that a
        role can do what has to happen before they go, such as stopping what they run.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Put Docker's engine in the place of the distribution's
  forja.gpu.apt_packages:
    present: ["docker-ce=5:29.6.1*", "docker-ce-cli=5:29.6.1*"]
    absent: [docker.io, docker-cli, containerd, runc]
    refuse: [podman-docker]
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode. Empty when nothing changed.
  returned: success
  type: list
  elements: str
installed:
  description: Names of the packages that were not there before, or had another version.
  returned: success
  type: list
  elements: str
removed:
  description: Names of the packages that were removed because O(absent) names them.
  returned: success
  type: list
  elements: str
versions:
  description: Version of every package named in O(present) that is installed now.
  returned: success
  type: dict
held:
  description: Names of the packages that O(hold_removals) kept, and with them everything else.
  returned: success
  type: list
  elements: str
notes:
  description: What check mode could not tell yet.
  returned: success
  type: list
  elements: str
"""

import os
import time
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.apt.packages import Plan, State, apply, gather, plan, unknown, wanted
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run

UPDATES = "/var/lib/dpkg/updates"


def argument_spec() -> Dict[str, Any]:
    names = {"type": "list", "elements": "str", "default": []}
    return {"present": dict(names), "absent": dict(names), "refuse": dict(names), "hold_removals": {"type": "bool", "default": False}}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    run = module_run(module, DEBIAN_FRONTEND="noninteractive")
    absent, refuse, notes = module.params["absent"], module.params["refuse"], []

    def read() -> State:
        state = gather(run, names, os.listdir(UPDATES) if os.path.isdir(UPDATES) else [])
        in_the_way = [name for name in refuse if name in state.installed]
        if in_the_way:
            raise ForjaError(f"{', '.join(in_the_way)} stands in the way; remove it, then run again. Nothing was changed.")
        return state

    def todo(state: State) -> Plan:
        return plan(state, present, absent, module.params["hold_removals"])

    try:
        present = [wanted(item) for item in module.params["present"]]
        names = [item.name for item in present] + absent + refuse
        outcome = converge(read, lambda state: todo(state).steps, lambda state, _: apply(run, time.sleep, todo(state), absent),
                           module.check_mode)
        done = todo(outcome.before)
        if module.check_mode and outcome.steps:
            notes = list(filter(None, [unknown(run, done, absent)]))
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return

    def listing(versions: Dict[str, str]) -> str:
        return "".join(f"{name} {versions[name]}\n" for name in sorted(set(names)) if name in versions)

    before, after = outcome.before.installed, outcome.after.installed
    predicted = {**before, **{item.name: item.version or "(newest)" for item in done.install}}
    shown = {name: version for name, version in predicted.items() if name not in done.remove} if module.check_mode else after
    module.exit_json(
        changed=outcome.changed, steps=outcome.steps, held=done.held, notes=notes,
        installed=[item.name for item in done.install], removed=done.remove,
        versions={item.name: after[item.name] for item in present if item.name in after},
        diff={"before": listing(before), "after": listing(shown)},
    )


if __name__ == "__main__":
    main()
