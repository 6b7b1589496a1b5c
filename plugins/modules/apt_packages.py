#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: apt_packages
short_description: Installs, removes and holds packages in one transaction that removes nothing unnamed
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
  - With O(state=snapshot) and O(state=restored) a role puts back what was installed and held before a change that failed.
attributes:
  check_mode:
    description: Tells what would change; where apt knows the packages, after a simulation by apt.
    support: full
  diff_mode:
    description: Shows the installed versions before, and what is wanted of them.
    support: full
options:
  state:
    description:
      - V(converged) brings the host to O(present), O(absent) and O(hold).
      - V(snapshot) changes nothing and returns RV(snapshot).
      - V(restored) brings the host back to O(snapshot) in one transaction, versions and holds included. It fails with what is left where it
        cannot, as when the repositories no longer have a former version.
      - V(purged) removes O(absent) and every package that depends on them, held or half installed.
    type: str
    choices: [converged, snapshot, restored, purged]
    default: converged
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
  hold:
    description:
      - Packages that belong together. They are held, or freed, after the transaction. While something installed of O(present) or O(absent)
        has to change, the transaction may change them although they are held; otherwise they stay as they are.
      - Other held packages are never changed.
    type: dict
    suboptions:
      packages:
        description: Names, or patterns as those of a shell. Packages that are not installed are ignored.
        type: list
        elements: str
        required: true
      exclude:
        description: Names or patterns of packages to which it does not apply.
        type: list
        elements: str
        default: []
      state:
        description: Whether the packages are V(held) or V(free) in the end.
        type: str
        choices: [held, free]
        default: held
  refresh:
    description: Whether to refresh apt's lists first. That is no change of the host, and is left out in check mode.
    type: bool
    default: false
  snapshot:
    description: For O(state=restored), what O(state=snapshot) returned.
    type: dict
  leftovers:
    description: >-
      For O(state=restored), patterns of packages that are removed where the snapshot has them half installed only. Other packages that were
      half installed stay as they are.
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

- name: Upgrade the driver with its libraries, and hold them as one set
  forja.gpu.apt_packages:
    present: ["nvidia-driver-cuda=595.71.05-*", "nvidia-kernel-open-dkms=595.71.05-*"]
    hold:
      packages: ["nvidia-*", "libnvidia-*"]
      exclude: ["nvidia-container-*", "libnvidia-container*"]

- name: Remember what is installed
  forja.gpu.apt_packages:
    state: snapshot
  register: before

- name: Roll back to what was installed
  forja.gpu.apt_packages:
    state: restored
    snapshot: "{{ before.snapshot }}"
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
snapshot:
  description: >-
    The packages of the host with their versions under C(installed) and, where dpkg was interrupted in them, C(partial); names of those that
    are C(held).
  returned: with O(state=snapshot)
  type: dict
notes:
  description: What check mode could not tell yet.
  returned: success
  type: list
  elements: str
"""

import os
import time
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.apt import apt_get
from ..module_utils.forja.apt import snapshot as snapshots
from ..module_utils.forja.apt.packages import Plan, State, Together, Wanted, apply, gather, plan, purge, unknown, wanted
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import Run, module_run

UPDATES = "/var/lib/dpkg/updates"


def argument_spec() -> Dict[str, Any]:
    names = {"type": "list", "elements": "str", "default": []}
    return {
        "state": {"type": "str", "choices": ["converged", "snapshot", "restored", "purged"], "default": "converged"},
        "present": dict(names), "absent": dict(names), "refuse": dict(names), "hold_removals": {"type": "bool", "default": False},
        "hold": {"type": "dict", "options": {
            "packages": {"type": "list", "elements": "str", "required": True}, "exclude": dict(names),
            "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
        }},
        "refresh": {"type": "bool", "default": False}, "snapshot": {"type": "dict"}, "leftovers": dict(names),
    }


def restored(run: Run, params: Dict[str, Any], check: bool) -> Dict[str, Any]:
    """Go back to the snapshot."""
    former, leftovers = snapshots.load(params["snapshot"]), params["leftovers"]
    outcome = converge(lambda: snapshots.gather(run), lambda now: snapshots.plan(now, former, leftovers).steps,
                       lambda now, _: snapshots.apply(run, snapshots.plan(now, former, leftovers), former, leftovers), check)
    todo = snapshots.plan(outcome.before, former, leftovers)
    before, after = ("".join(f"{name} {version}\n" for name, version in sorted(state.installed.items()))
                     for state in (outcome.before, former))
    return {"changed": outcome.changed, "steps": outcome.steps, "removed": todo.remove,
            "installed": [item.partition("=")[0] for item in todo.install], "diff": {"before": before, "after": after}}


def converged(run: Run, params: Dict[str, Any], present: List[Wanted], check: bool) -> Dict[str, Any]:
    """Install, remove and hold what is asked for."""
    absent, refuse, names = params["absent"], params["refuse"], [item.name for item in present] + params["absent"] + params["refuse"]
    hold = params["hold"] and Together(params["hold"]["packages"], params["hold"]["exclude"], params["hold"]["state"] == "held")

    def read() -> State:
        state = gather(run, names, os.listdir(UPDATES) if os.path.isdir(UPDATES) else [], bool(hold))
        in_the_way = [name for name in refuse if name in state.installed]
        if in_the_way:
            raise ForjaError(f"{', '.join(in_the_way)} stands in the way; remove it, then run again. Nothing was changed.")
        return state

    def todo(state: State) -> Plan:
        return plan(state, present, absent, params["hold_removals"], hold)

    def change(state: State, _: List[str]) -> None:
        if params["state"] == "purged":
            purge(run, todo(state).remove)
        else:
            apply(run, time.sleep, todo(state), absent)

    if params["refresh"] and not check:
        apt_get.refresh(run, time.sleep)
    outcome = converge(read, lambda state: todo(state).steps, change, check)
    done = todo(outcome.before)
    note = unknown(run, done, absent) if check and outcome.steps and params["state"] == "converged" else None

    def listing(versions: Dict[str, str]) -> str:
        return "".join(f"{name} {versions[name]}\n" for name in sorted(set(names)) if name in versions)

    before, after = outcome.before.installed, outcome.after.installed
    predicted = {**before, **{item.name: item.version or "(newest)" for item in done.install}}
    shown = {name: version for name, version in predicted.items() if name not in done.remove} if check else after
    return {"changed": outcome.changed, "steps": outcome.steps, "held": done.held, "notes": [note] if note else [],
            "installed": [item.name for item in done.install], "removed": done.remove,
            "versions": {item.name: after[item.name] for item in present if item.name in after},
            "diff": {"before": listing(before), "after": listing(shown)}}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "restored", ["snapshot"])])
    run, params = module_run(module, DEBIAN_FRONTEND="noninteractive"), module.params
    try:
        if params["state"] == "snapshot":
            result: Dict[str, Any] = {"changed": False, "snapshot": dict(snapshots.gather(run)._asdict())}
        elif params["state"] == "restored":
            result = restored(run, params, module.check_mode)
        else:
            result = converged(run, params, [wanted(item) for item in params["present"]], module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(**result)


if __name__ == "__main__":
    main()
