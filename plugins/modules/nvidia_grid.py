#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: nvidia_grid
short_description: Installs or removes Microsoft's GRID build of the NVIDIA driver
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Runs the installer that lies at C(/var/cache/forja-nvidia-grid-VERSION.run), has DKMS build its module for each kernel that may boot,
    and sets in C(/etc/nvidia/gridd.conf) what Azure asks for. Other settings of that file stay.
  - While the installer's file is on the host, the installation counts as interrupted, and the next call begins it again. It is removed at
    the end.
  - Where the installer or the build of its module fails, what it has installed is removed again.
attributes:
  check_mode:
    description: Tells what would change.
    support: full
  diff_mode:
    description: Changes no single file that could be compared.
    support: none
options:
  state:
    description: Whether a driver of a C(.run) file is installed. With V(absent) any is removed, whoever made it.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: Version of the driver. Required with O(state=present).
    type: str
  flavour:
    description: Flavour of the kernel module.
    type: str
    choices: [open, proprietary]
    default: open
  kernels:
    description: Releases of the kernels that must have the module.
    type: list
    elements: str
    default: []
  nouveau:
    description: >-
      Whether nouveau drives GPUs now. Then the installer is told not to stop because of it and not to load its module, and a reboot
      exchanges the two.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Install the GRID driver
  forja.gpu.nvidia_grid:
    version: 595.58.03
    kernels: [6.8.0-1030-azure]
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
"""

import os
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.driver.grid import Request, apply, gather, plan
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "version": {"type": "str"},
        "flavour": {"type": "str", "choices": ["open", "proprietary"], "default": "open"},
        "kernels": {"type": "list", "elements": "str", "default": []},
        "nouveau": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["version"])])
    run, files, params, machine = module_run(module), HostFiles("/"), module.params, os.uname().machine
    version = params["version"] if params["state"] == "present" else ""
    request = Request(version, params["flavour"], params["kernels"], params["nouveau"])
    try:
        outcome = converge(lambda: gather(files, version, machine), lambda state: plan(state, request),
                           lambda _, steps: apply(run, files, steps, request, machine), module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=outcome.changed, steps=outcome.steps)


if __name__ == "__main__":
    main()
