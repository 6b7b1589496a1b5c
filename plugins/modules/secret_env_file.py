#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: secret_env_file
short_description: Generate secrets once on the host, in an env file that only root can read
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Writes lines of the form C(NAME=value) with mode 0600. A name without a value gets a random one of 256 bits, which never leaves the
    host. What is there already is kept, unless it is empty.
attributes:
  check_mode:
    description: Predicts which secrets would be generated.
    support: full
  diff_mode:
    description: No secret is shown.
    support: none
options:
  path:
    description: The file. Its folder is created with mode 0700.
    type: path
    required: true
  secrets:
    description: The names with their values; an empty value stands for a random one. Other names are removed from the file.
    type: dict
    default: {}
  state:
    description: V(absent) removes the file.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Generate the secret key
  forja.gpu.secret_env_file:
    path: /etc/forja/open-webui/secrets.env
    secrets: {WEBUI_SECRET_KEY: ""}
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode, without values.
  returned: success
  type: list
  elements: str
  sample: [generate WEBUI_SECRET_KEY]
"""

import os
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host import secrets
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError


def argument_spec() -> Dict[str, Any]:
    return {
        "path": {"type": "path", "required": True},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    path, present = module.params["path"], module.params["state"] == "present"
    wanted = {name: str(value or "") for name, value in module.params["secrets"].items()}

    def plan(state: secrets.State) -> List[str]:
        return secrets.plan(state, wanted) if present else [f"remove {path}"] if state.mode != -1 else []

    try:
        secrets.check(wanted)
        outcome = converge(
            lambda: secrets.gather(path),
            plan,
            lambda state, _: secrets.apply(path, state, wanted) if present else os.unlink(path),
            module.check_mode,
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=outcome.changed, steps=outcome.steps)


if __name__ == "__main__":
    main()
