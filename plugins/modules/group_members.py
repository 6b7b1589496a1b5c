#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: group_members
short_description: Adds existing users to a group that a package creates
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Adds users to a group. Other members stay. The primary group of a user counts as membership.
  - Refuses users that do not exist, where C(ansible.builtin.user) would create them.
  - In check mode a group that does not exist yet is no error, because the package that creates it is not installed either.
attributes:
  check_mode:
    description: Predicts the changes, also before the group exists, and refuses what the real run would refuse.
    support: full
  diff_mode:
    description: Shows the members of the group that were asked for, before and after.
    support: full
options:
  group:
    description: The group.
    type: str
    required: true
  users:
    description: The users to add.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Add users to the group docker
  forja.gpu.group_members:
    group: docker
    users: [ada, grace]

- name: Check that the users exist, before anything is installed
  forja.gpu.group_members:
    group: docker
    users: [ada, grace]
  check_mode: true
  changed_when: false
"""

RETURN = r"""
added:
  description: The users that were added, or would be added in check mode.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Dict, Iterable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.groups import apply, gather, plan, refuse_unknown
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {"group": {"type": "str", "required": True}, "users": {"type": "list", "elements": "str", "required": True}}


def listing(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in sorted(names))


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    name, users, run = module.params["group"], module.params["users"], module_run(module)
    try:
        refuse_unknown(gather(name, users))
        outcome = converge(
            lambda: gather(name, users), lambda group: plan(group, users), lambda _, added: apply(run, name, added), module.check_mode
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    before = set(users) - set(outcome.steps)
    module.exit_json(changed=outcome.changed, added=outcome.steps, diff={"before": listing(before), "after": listing(set(users))})


if __name__ == "__main__":
    main()
