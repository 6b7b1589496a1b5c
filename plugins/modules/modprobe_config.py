#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: modprobe_config
short_description: Writes a file for modprobe and rebuilds the initramfs with it
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - A module that the initial file systems (initramfs) load is there before C(/etc) is. This module writes a file to C(/etc/modprobe.d) and
    rebuilds the initial file systems of all kernels, with C(update-initramfs) or C(dracut).
  - A copy of what they know is written after them, so that a run that was interrupted rebuilds them again.
attributes:
  check_mode:
    description: Tells what would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
options:
  name:
    description: Name of the file, without its folder and without C(.conf).
    type: str
    required: true
  content:
    description: Content of the file.
    type: str
    default: ""
  state:
    description: Whether the file exists.
    type: str
    choices: [present, absent]
    default: present
  initramfs:
    description: Whether to rebuild the initial file systems. Without it only the file changes, and a later call rebuilds them.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Keep nouveau from loading
  forja.gpu.modprobe_config:
    name: no-nouveau
    content: |
      blacklist nouveau
      options nouveau modeset=0
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.driver.modprobe import Place, apply, gather, plan
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_run


def argument_spec() -> Dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "default": ""},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "initramfs": {"type": "bool", "default": True},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    run, files, params = module_run(module), HostFiles("/"), module.params
    place, content = Place(params["name"]), params["content"] if params["state"] == "present" else None
    try:
        outcome = converge(lambda: gather(files, place), lambda state: plan(state, place, content, params["initramfs"]),
                           lambda state, steps: apply(run, state, steps, place, content), module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=outcome.changed, steps=outcome.steps, diff={
        "before_header": place.file, "after_header": place.file, "before": outcome.before.content or "", "after": content or ""})


if __name__ == "__main__":
    main()
