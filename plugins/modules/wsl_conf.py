#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: wsl_conf
short_description: Merges settings into /etc/wsl.conf
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Sets keys of C(/etc/wsl.conf) and keeps everything else in the file as it is, comments included.
  - WSL reads the file when it starts the distribution, so a change takes effect after C(wsl --shutdown) in Windows.
attributes:
  check_mode:
    description: Predicts the changes.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
options:
  settings:
    description: Values by key by section, as C(wsl.conf) names them. A value of V(true) is written as C(true).
    type: dict
    required: true
  path:
    description: The file. A new one gets mode 0644.
    type: path
    default: /etc/wsl.conf
"""

EXAMPLES = r"""
- name: Switch on systemd
  forja.gpu.wsl_conf:
    settings:
      boot: {systemd: true}
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["add [boot] systemd=true"]
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host import atomic
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.wsl.conf import Settings, merge, plan


def argument_spec() -> Dict[str, Any]:
    return {"settings": {"type": "dict", "required": True}, "path": {"type": "path", "default": "/etc/wsl.conf"}}


def read_settings(raw: Dict[str, Any]) -> Settings:
    """Return the settings as text. Raises ForjaError where a section is not a dictionary."""
    wrong = [str(section) for section, values in raw.items() if not isinstance(values, dict)]
    if wrong:
        raise ForjaError(f"settings: {', '.join(wrong)} must be a dictionary of keys and values.")
    return {str(section): {str(key): str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
            for section, values in raw.items()}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    path = module.params["path"]

    def gather() -> str:
        return (atomic.read(path) or b"").decode("utf-8", "surrogateescape")

    def write(text: str, steps: Any) -> None:
        atomic.replace(path, merge(text, settings).encode("utf-8", "surrogateescape"))

    try:
        settings = read_settings(module.params["settings"])
        outcome = converge(gather, lambda text: plan(text, settings), write, module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    after = merge(outcome.before, settings) if outcome.changed else outcome.before
    module.exit_json(changed=outcome.changed, steps=outcome.steps, diff={
        "before_header": path, "after_header": path,
        "before": outcome.before.encode("utf-8", "replace").decode(), "after": after.encode("utf-8", "replace").decode()})


if __name__ == "__main__":
    main()
