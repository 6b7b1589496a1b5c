#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: mok_key
short_description: Makes the key that DKMS signs with and asks the firmware to trust it
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Where Secure Boot is on, the kernel loads a module that was built on the host only once the firmware trusts the key that signed it. This
    module makes the key where there is none, and stages it with C(mokutil). The firmware asks for the password at the console, at the next
    boot.
  - Needs the packages C(mokutil) and C(openssl), on Ubuntu C(shim-signed).
attributes:
  check_mode:
    description: Tells what would change.
    support: full
  diff_mode:
    description: Shows no key.
    support: none
options:
  distribution:
    description: Name of the distribution, which decides where DKMS looks for the key.
    type: str
    required: true
  password:
    description: Password that the firmware asks for at the console, once.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Stage the key that DKMS signs with
  forja.gpu.mok_key:
    distribution: "{{ ansible_facts.distribution }}"
    password: "{{ vault_mok_password }}"
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
trust:
  description: Whether the firmware trusts the key; V(missing), V(staged) or V(enrolled).
  returned: success
  type: str
path:
  description: File of the public key.
  returned: success
  type: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.driver.mok import apply, gather, path, plan
from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.files import HostFiles
from ..module_utils.forja.host.run import module_feed, module_run


def argument_spec() -> Dict[str, Any]:
    return {"distribution": {"type": "str", "required": True}, "password": {"type": "str", "required": True, "no_log": True}}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    run, feed, files, key = module_run(module), module_feed(module), HostFiles("/"), path(module.params["distribution"])
    try:
        outcome = converge(lambda: gather(run, files, key), lambda state: plan(state, key),
                           lambda state, _: apply(run, feed, state, key, module.params["password"]), module.check_mode)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=outcome.changed, steps=outcome.steps, trust=outcome.after.trust, path=key)


if __name__ == "__main__":
    main()
