#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Partition GPUs with MIG."""

DOCUMENTATION = r"""
---
module: gpu_mig
short_description: Partition NVIDIA GPUs with MIG, planned before anything is touched
version_added: "0.1.0"
description:
  - Makes the GPU instances and compute instances of a host what a configuration in the format of NVIDIA's mig-parted says.
  - A plan is made from what the driver itself offers on these very boards. Instances that are already right stay where they are, with
    their UUIDs and their processes; as few as possible are removed. What cannot be is refused before anything is changed.
  - A GPU in use is refused with the names of the processes. After any failure midway, every GPU is put back as it was found. An
    interrupted run leaves a journal, from which the next one finishes or puts back; a GPU that somebody has changed since is left alone.
  - Unlike mig-parted, it takes a profile that the card does not have, a filter that matches nothing, and an unknown key for errors.
attributes:
  check_mode:
    description:
      - Predicts the plan; makes no call that changes anything.
      - Where NVML cannot be asked yet, because the driver or its Python binding is still missing, only the form of O(config) is
        checked, and RV(obstacle) says so.
    support: full
  diff_mode:
    description: The diff draws the slots of the GPUs that change.
    support: full
options:
  config:
    description:
      - A mig-parted configuration, as data or as the text of a file. Text in YAML needs python3-yaml on the host.
      - Beyond that format, C(devices) may name a GPU by UUID or PCI address, and C(mig-devices) may be a list of GPU instances with
        C(profile), C(placement) (the first memory slot), C(compute) (the compute instances in their order, such as
        C([1c, 2c])) and C(count).
      - Without it, O(selected) names a layout that is computed from the card.
    type: raw
  selected:
    description:
      - The label to use; may be left out when O(config) has only one.
      - Without O(config) one of V(all-disabled), V(all-enabled), V(all-balanced), or V(all-) and a profile, such as V(all-1g.10gb)
        and V(all-1g.10gb.me).
    type: str
  reset:
    description:
      - Whether a GPU whose mode changes only with a reset may be reset (C(nvidia-smi --gpu-reset)). It is never done to one in use.
      - With V(never), or where the reset is refused as in a virtual machine, the mode stays pending and RV(reboot_required) is true.
        GPUs of the Ampere generation may need it, later ones do not.
    type: str
    choices: [never, allowed]
    default: never
requirements:
  - pynvml (Debian and Ubuntu python3-pynvml, or nvidia-ml-py) in any Python of the host
author:
  - The Forja authors (@forja)
"""

EXAMPLES = r"""
- name: Two small, one middle and one large instance on each GPU
  forja.gpu.gpu_mig:
    selected: all-balanced

- name: A file of mig-parted
  forja.gpu.gpu_mig:
    config: "{{ lookup('ansible.builtin.file', 'mig.yaml') }}"
    selected: training

- name: Seven for the notebooks on GPU 0, and no MIG on GPU 1
  forja.gpu.gpu_mig:
    config:
      version: v1
      mig-configs:
        mixed:
          - devices: [0]
            mig-enabled: true
            mig-devices: {1g.5gb: 7}
          - devices: ["0000:0f:00.0"]
            mig-enabled: false
"""

RETURN = r"""
label:
  description: The label that was used.
  type: str
  returned: success
plan:
  description:
    - The steps, in their order, each with C(gpu), C(gpu_uuid), C(action) and what it is about.
    - Of a GPU whose mode turns out to wait for a reset or a reboot (RV(reboot_reasons)) those that make instances are not done yet.
  type: list
  elements: dict
  returned: success
  sample: [{"gpu": 0, "action": "make_gpu_instance", "profile": "3g.20gb", "placement": {"start": 4, "size": 4}}]
steps:
  description: The same as sentences.
  type: list
  elements: str
  returned: success
  sample: ["GPU 0: make 3g.20gb at slots 4-7"]
before:
  description: The layout found, as a mig-parted configuration with the label C(current).
  type: dict
  returned: success
after:
  description: The layout there is now, in the same form.
  type: dict
  returned: success, not in check mode
devices:
  description:
    - The MIG devices there are now, with C(uuid), C(profile), C(gpu), C(gpu_uuid), C(gpu_address), C(gpu_instance),
      C(compute_instance) and C(placement).
  type: list
  elements: dict
  returned: success
reboot_required:
  description: Whether the wanted layout needs a reboot (or O(reset=allowed)).
  type: bool
  returned: success
reboot_reasons:
  description: Why, a sentence for each GPU.
  type: list
  elements: str
  returned: success
nvml_calls:
  description: How many calls of NVML it took.
  type: int
  returned: success
obstacle:
  description: Why nothing could be planned; empty where it could.
  type: str
  returned: in check mode
blockers:
  description: Who uses what would go, each with C(gpu), C(gpu_instance), C(pid), C(name), C(command), C(unit), C(container).
  type: list
  elements: dict
  returned: in check mode, and when it is why the change was refused
restored:
  description: Whether every GPU was put back as it was found.
  type: bool
  returned: when the change failed
"""

import contextlib
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.mig.apply import BusyError, ChangeError
from ..module_utils.forja.mig.config.document import MissingYamlError
from ..module_utils.forja.mig.config.export import exported
from ..module_utils.forja.mig.config.selection import load
from ..module_utils.forja.mig.journal import Journal
from ..module_utils.forja.mig.node import Node, pictures
from ..module_utils.forja.mig.nvml.gateway import Gateway
from ..module_utils.forja.mig.nvml.reset import run
from ..module_utils.forja.mig.nvml.session import GatewayError
from ..module_utils.forja.nvml.access import binding


class UnreachableError(ForjaError):
    """Raised when NVML cannot be asked."""


def argument_spec() -> Dict[str, Any]:
    return {
        "config": {"type": "raw"},
        "selected": {"type": "str"},
        "reset": {"type": "str", "choices": ["never", "allowed"], "default": "never"},
    }


def partition(module: AnsibleModule, gateway: Gateway) -> Dict[str, Any]:
    params = module.params
    node = Node(gateway, run)
    if module.check_mode:
        with Journal().reading() as journal:
            outcome = node.plan(params["config"], params["selected"], params["reset"] == "allowed", journal.entries())
            blockers = node.blockers(outcome)
    else:
        with Journal() as journal:
            outcome = node.apply(params["config"], params["selected"], params["reset"] == "allowed", journal, module.debug)
        blockers = []
    for warning in outcome.warnings:
        module.warn(warning)
    result: Dict[str, Any] = {
        "changed": outcome.changed,
        "label": outcome.label,
        "plan": outcome.data,
        "steps": outcome.steps,
        "before": exported(outcome.gpus, "current"),
        "devices": node.devices(),
        "reboot_required": bool(outcome.reboot),
        "reboot_reasons": list(outcome.reboot),
    }
    if module.check_mode:
        result.update(blockers=blockers, obstacle="")
    else:
        result["after"] = exported(gateway.gpus(), "current") if outcome.changed else result["before"]
    if module._diff:
        before, after = pictures(gateway, outcome.plans)
        result["diff"] = {"before": before, "after": after}
    result["nvml_calls"] = gateway.calls
    return result


def connected() -> Gateway:
    """Start a session with NVML, if need be in another Python of the host. Raises UnreachableError."""
    pynvml = binding(HostFiles("/"), has_respawned, respawn_module)
    if pynvml is None:
        raise UnreachableError("No Python of this host has pynvml; install python3-pynvml, or use the role mig, which does")
    gateway = Gateway(pynvml)
    try:
        return gateway.__enter__()
    except GatewayError as error:
        raise UnreachableError(str(error)) from error


def unplanned(params: Dict[str, Any], obstacle: str) -> Dict[str, Any]:
    """Predict a run on a host whose driver is still missing. Without a driver there is no MIG to disable."""
    with contextlib.suppress(MissingYamlError):
        load(params["config"] or {})
    steps = [] if params["selected"] == "all-disabled" and not params["config"] else ["partition the GPUs"]
    return {"changed": bool(steps), "steps": steps, "plan": [], "blockers": [], "reboot_required": False, "reboot_reasons": [],
            "obstacle": obstacle}


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        with contextlib.ExitStack() as stack:
            try:
                gateway = connected()
                stack.push(gateway)
                result = partition(module, gateway)
            except UnreachableError as error:
                if not module.check_mode:
                    raise
                result = unplanned(module.params, str(error))
    except BusyError as error:
        module.fail_json(msg=str(error), blockers=error.blockers)
    except ChangeError as error:
        module.fail_json(msg=str(error), restored=error.restored)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
