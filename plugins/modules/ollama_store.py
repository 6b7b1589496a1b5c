#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: ollama_store
short_description: Make the folder of Ollama's models usable for its service, or delete the models
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Creates the folder, or gives it and the models in it to the user of the service where that user cannot use them. A folder that the
    user can write to is left as it is.
  - Looks at the folder as that user, so that mode bits, ACLs, mounts and a folder on the way that is closed all count. At the end it writes
    a file there as that user.
  - Refuses a folder that holds files of others and that the user may not write to.
attributes:
  check_mode:
    description: Predicts the steps. The user need not exist yet.
    support: full
  diff_mode:
    description: The steps say what changes.
    support: none
options:
  path:
    description: The folder of the models.
    type: path
    required: true
  user:
    description: The user of the service.
    type: str
    default: ollama
  home:
    description: The home of the service's user, with its keys.
    type: path
    default: /usr/share/ollama
  state:
    description: V(absent) deletes the models (C(blobs) and C(manifests)) and the home, but nothing else in O(path) and no mount point.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Make the folder of the models usable
  forja.gpu.ollama_store:
    path: /srv/models/ollama

- name: Delete the models
  forja.gpu.ollama_store:
    path: /srv/models/ollama
    state: absent
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode; empty if nothing changed.
  returned: success
  type: list
  elements: str
  sample: [create /srv/models/ollama for ollama]
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.access import account
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.ollama import store


def argument_spec() -> Dict[str, Any]:
    return {
        "path": {"type": "path", "required": True},
        "user": {"type": "str", "default": "ollama"},
        "home": {"type": "path", "default": "/usr/share/ollama"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params, user = module.params, account(module.params["user"])
    present = params["state"] == "present"
    try:
        outcome = converge(
            lambda: store.gather(params["path"], params["home"], user),
            lambda found: store.plan(found, user) if present else store.plan_purge(found),
            lambda found, steps: store.apply(found, user, steps) if present else store.apply_purge(steps),
            module.check_mode,
            lambda step: step.text,
        )
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=outcome.changed, steps=[step.text for step in outcome.steps])


if __name__ == "__main__":
    main()
