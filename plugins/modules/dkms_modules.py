#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: dkms_modules
short_description: Makes sure that DKMS has built a module for each kernel that may boot
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Packages build their modules for the running kernel, and report success where they could not. This module reads from DKMS's own tree
    for which kernels the newest version is installed, and builds it for those that lack it.
  - A build that fails is an error with the last lines of its log.
attributes:
  check_mode:
    description: Tells what would be built.
    support: full
  diff_mode:
    description: Shows for which kernels each module is installed, before and after.
    support: full
options:
  name:
    description: Regular expression for the names of the modules, as DKMS calls them.
    type: str
    required: true
  kernels:
    description: Releases of the kernels that must have them.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Have NVIDIA's module for the running kernel and the next one
  forja.gpu.dkms_modules:
    name: nvidia(-current)?(-open)?
    kernels: [6.12.43+deb13-amd64, 6.12.48+deb13-amd64]
"""

RETURN = r"""
steps:
  description: What was built, or would be in check mode.
  returned: success
  type: list
  elements: str
modules:
  description: >-
    The modules that DKMS knows under this name, each with name, version, the kernels it is C(installed) for, and under C(errors) what
    the log of a build that failed says.
  returned: success
  type: list
  elements: dict
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.driver.dkms import Source, apply, errors, gather, plan, steps
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {"name": {"type": "str", "required": True}, "kernels": {"type": "list", "elements": "str", "required": True}}


def listing(sources: List[Source]) -> str:
    return "".join(f"{one.name} {one.version}: {', '.join(sorted(one.installed)) or 'no kernel'}\n" for one in sources)


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    run, files, name, kernels = module_run(module), HostFiles("/"), module.params["name"], module.params["kernels"]

    def read() -> List[Source]:
        found = gather(files, name)
        if kernels and not found and not module.check_mode:
            raise ForjaError(f"DKMS knows no module {name}: the package with its source is not installed.")
        return found

    try:
        outcome = converge(read, lambda found: steps(plan(found, kernels)), lambda found, _: apply(run, files, plan(found, kernels)),
                           module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    todo = plan(outcome.after, kernels)  # only check mode leaves something to do
    predicted = [one._replace(installed=one.installed + [k for k in sorted(todo) if one in todo[k]]) for one in outcome.after]
    module.exit_json(changed=outcome.changed, steps=outcome.steps,
                     modules=[dict(one._asdict(), errors=errors(files, one)) for one in outcome.after],
                     diff={"before": listing(outcome.before), "after": listing(predicted)})


if __name__ == "__main__":
    main()
