#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: nvidia_cdi
short_description: Keeps exactly one CDI specification of the NVIDIA GPUs, of the driver that is loaded
version_added: "0.2.0"
author: The Forja authors (@forja)
description:
  - Container engines find GPUs through a specification of the Container Device Interface (CDI) in C(/etc/cdi) or C(/var/run/cdi).
    After a driver upgrade, a change of MIG devices or an older setup by hand it may be of another driver, name devices that are gone,
    or be there twice; containers then start without a working GPU, or not at all.
  - Runs NVIDIA's own C(nvidia-cdi-refresh.service) where the specification does not fit, and looks again afterwards. Other
    specifications of the same devices are set aside under a name that engines do not read, never deleted.
attributes:
  check_mode:
    description: Says what would be set aside or written again, and why.
    support: full
  diff_mode:
    description: Shows which files name which devices, before and after.
    support: full
options:
  driver_version:
    description: Version of the loaded driver, such as RV(ignore:580.126.20). Empty where none is loaded; then nothing is written.
    type: str
    default: ""
  devices:
    description: Names that the specification must have, such as V(0) or V(0:1).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refresh the CDI specification if it does not fit the loaded driver
  forja.gpu.nvidia_cdi:
    driver_version: "{{ ansible_facts['gpu']['driver']['loaded_version'] }}"
"""

RETURN = r"""
specs:
  description: The specifications of NVIDIA GPUs, each with its C(path), C(devices), C(driver) version and C(missing) device nodes.
  returned: success
  type: list
  elements: dict
steps:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
"""

from os import rename
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.containers.cdi import GENERATED, REMOVE, State, apply, gather, plan
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {"driver_version": {"type": "str", "default": ""}, "devices": {"type": "list", "elements": "str", "default": []}}


def shown(state: State) -> str:
    return "".join(f"{spec.path}: driver {spec.driver or 'unknown'}, devices {', '.join(spec.devices)}\n" for spec in state.specs)


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    driver, devices = module.params["driver_version"], module.params["devices"]
    run = module_run(module)
    try:
        outcome = converge(
            lambda: gather(HostFiles("/")), lambda state: plan(state, driver, devices),
            lambda state, steps: apply(run, rename, state, steps), module.check_mode, lambda step: step.describe(),
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    after = shown(outcome.after)
    if module.check_mode and outcome.steps:
        kept = [spec for spec in outcome.before.specs if not any(s.action == REMOVE and s.path == spec.path for s in outcome.steps)]
        after = shown(State(tuple(kept), True)) + "".join(f"{GENERATED}: driver {driver}, written again\n" for s in outcome.steps
                                                          if s.action != REMOVE)
    module.exit_json(changed=outcome.changed, steps=[step.describe() for step in outcome.steps],
                     specs=[spec._asdict() for spec in outcome.after.specs], diff={"before": shown(outcome.before), "after": after})


if __name__ == "__main__":
    main()
