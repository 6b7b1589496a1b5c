#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: apt_hold
short_description: Keeps apt from changing packages that belong together
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Marks every installed package that a pattern names as held, or takes the marks away, in one command.
  - C(ansible.builtin.dpkg_selections) takes one name at a time, so that who uses it has to know all dependencies by name.
attributes:
  check_mode:
    description: Tells which marks would change.
    support: full
  diff_mode:
    description: Shows the held packages before and after.
    support: full
options:
  packages:
    description: Names, or patterns as those of a shell. Packages that are not installed are left alone.
    type: list
    elements: str
    required: true
  exclude:
    description: Names or patterns of packages that are left alone even so.
    type: list
    elements: str
    default: []
  state:
    description: Whether the packages are V(held) or V(free).
    type: str
    choices: [held, free]
    default: held
"""

EXAMPLES = r"""
- name: Change the driver only when asked
  forja.gpu.apt_hold:
    packages: ["nvidia-*", "libnvidia-*"]
    exclude: ["nvidia-container-*", "libnvidia-container*"]
"""

RETURN = r"""
packages:
  description: Names of the packages whose mark was changed, or would be in check mode.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.apt.hold import apply, gather, plan
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "packages": {"type": "list", "elements": "str", "required": True},
        "exclude": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    run, hold = module_run(module), module.params["state"] == "held"
    request = (module.params["packages"], module.params["exclude"], hold)
    try:
        outcome = converge(lambda: gather(run), lambda state: plan(state, *request), lambda _, names: apply(run, names, hold),
                           module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    held = outcome.before.held
    after = held | set(outcome.steps) if hold else held - set(outcome.steps)
    diff = {"before": "".join(name + "\n" for name in sorted(held)), "after": "".join(name + "\n" for name in sorted(after))}
    module.exit_json(changed=outcome.changed, packages=outcome.steps, diff=diff)


if __name__ == "__main__":
    main()
