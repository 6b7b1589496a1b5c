#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: nvml_binding
short_description: Gives a host a Python with pynvml, without touching its driver
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Does nothing where a Python of the host has pynvml, whoever installed it.
  - Installs the distribution's C(python3-pynvml) where apt would bring no package of the driver with it. That package depends on
    C(libnvidia-ml1), and a library of another source than the driver's breaks the driver.
  - Else makes a private environment, C(/opt/forja/python), with a pinned C(nvidia-ml-py) from the package index that the host's own pip is
    configured with; its hash is checked.
  - All modules of Forja find both.
attributes:
  check_mode:
    description: Predicts what would be installed.
    support: full
  diff_mode:
    description: Shows which Python has pynvml, before and after.
    support: full
options:
  state:
    description: With V(absent) the private environment is removed; a package of the distribution stays.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: The release of C(nvidia-ml-py) for the private environment. Needed with V(present).
    type: str
  sha256:
    description: Its SHA-256, of each file that may be installed. Needed with V(present).
    type: list
    elements: str
  yaml:
    description: Whether the distribution's C(python3-yaml) is needed too, for configurations in YAML.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Install pynvml
  forja.gpu.nvml_binding:
    version: 13.615.71
    sha256: [959bf4adf6fe1308e4bd739e722236b0d1ec8392e2cefad33ff70c311380b9b6]
"""

RETURN = r"""
steps:
  description: What was done, in check mode what would be done.
  returned: success
  type: list
  elements: str
interpreter:
  description: The Python that has pynvml; null in check mode while there is none, and with O(state=absent) where none is left.
  returned: success
  type: str
  sample: /usr/bin/python3
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.nvml.binding import apply, gather, plan


def argument_spec() -> Dict[str, Any]:
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "version": {"type": "str"},
        "sha256": {"type": "list", "elements": "str"},
        "yaml": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["version", "sha256"])])
    files, wanted = HostFiles("/"), module.params["state"] == "present"
    hashes = ["--hash=sha256:" + digest for digest in module.params["sha256"] or []]
    requirement = " ".join([f"nvidia-ml-py=={module.params['version']}"] + hashes) + "\n"

    run = module_run(module, DEBIAN_FRONTEND="noninteractive")
    try:
        outcome = converge(lambda: gather(run, files), lambda state: plan(state, requirement, wanted, module.params["yaml"]),
                           lambda _, steps: apply(run, steps, requirement), module.check_mode, lambda step: step.description)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    descriptions = [step.description for step in outcome.steps]
    before, after = outcome.before.interpreter or "", outcome.after.interpreter or ""
    predicted = descriptions[-1] if descriptions and module.check_mode else after
    module.exit_json(changed=outcome.changed, steps=descriptions, interpreter=outcome.after.interpreter,
                     diff={"before": (before or "no pynvml") + "\n", "after": (predicted or "no pynvml") + "\n"})


if __name__ == "__main__":
    main()
