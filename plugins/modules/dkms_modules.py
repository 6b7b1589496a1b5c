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

from ..module_utils.forja.driver.dkms import DkmsError, Source, apply, errors, gather, plan, steps
from ..module_utils.forja.host.files import HostFiles


def argument_spec() -> Dict[str, Any]:
    return {"name": {"type": "str", "required": True}, "kernels": {"type": "list", "elements": "str", "required": True}}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    module.run_command_environ_update = {"LC_ALL": "C"}
    files, name, kernels = HostFiles("/"), module.params["name"], module.params["kernels"]

    def listing(sources: List[Source]) -> str:
        return "".join(f"{one.name} {one.version}: {', '.join(sorted(one.installed)) or 'no kernel'}\n" for one in sources)

    before = after = gather(files, name)
    todo = plan(before, kernels)
    try:
        if kernels and not before and not module.check_mode:
            raise DkmsError(f"DKMS knows no module {name}: the package with its source is not installed.")
        if todo and not module.check_mode:
            apply(module.run_command, files, todo)
            after = gather(files, name)
            left = plan(after, kernels)
            if left:
                raise DkmsError(f"DKMS reports success, yet this is left to do: {'; '.join(steps(left))}")
    except DkmsError as error:
        module.fail_json(msg=str(error))
        return
    predicted = [one._replace(installed=one.installed + [k for k in sorted(todo) if one in todo[k]]) for one in before]
    module.exit_json(changed=bool(todo), steps=steps(todo), modules=[dict(one._asdict(), errors=errors(files, one)) for one in after],
                     diff={"before": listing(before), "after": listing(predicted if module.check_mode else after)})


if __name__ == "__main__":
    main()
