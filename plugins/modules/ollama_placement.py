#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: ollama_placement
short_description: Proves that Ollama runs a model in the memory of the GPU
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Has Ollama load the largest of some models and reads where it put it. Where Ollama finds no GPU, or the model does not fit, it
    computes on the CPU without a word.
  - It changes nothing but what is in memory for the time of C(OLLAMA_KEEP_ALIVE).
attributes:
  check_mode:
    description: Loads nothing and finds no problem.
    support: partial
  diff_mode:
    description: There is nothing to show.
    support: none
options:
  models:
    description: The models, as Ollama names them. Those that are not there are passed over.
    type: list
    elements: str
    required: true
  host:
    description: The server's address.
    type: str
    default: http://127.0.0.1:11434
  timeout:
    description: Seconds that loading may take.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Check that the model runs on the GPU
  forja.gpu.ollama_placement:
    models: ["llama3.1:8b"]
  register: placement
"""

RETURN = r"""
model:
  description: The model that was loaded; empty where none was there.
  returned: success
  type: str
size:
  description: The bytes that it takes.
  returned: success
  type: int
size_vram:
  description: The bytes of them that are in the memory of GPUs.
  returned: success
  type: int
problem:
  description: What is wrong and what to do; empty where the whole model is in the memory of GPUs.
  returned: success
  type: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.ollama.api import Client, open_url
from ..module_utils.forja.ollama.model import base_url
from ..module_utils.forja.ollama.placement import Placement, find, largest


def argument_spec() -> Dict[str, Any]:
    return {
        "models": {"type": "list", "elements": "str", "required": True},
        "host": {"type": "str", "default": "http://127.0.0.1:11434"},
        "timeout": {"type": "int", "default": 600},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    found = Placement("", 0, 0)
    try:
        client = Client(base_url(module.params["host"]), open_url)
        name = None if module.check_mode else largest(client.ask("GET", "/api/tags"), module.params["models"])
        if name:
            client.ask("POST", "/api/generate", {"model": name, "stream": False}, module.params["timeout"])
            placed = find(client.ask("GET", "/api/ps"), name)
            if placed is None:
                raise ForjaError(f"Ollama reports that {name} is loaded, and /api/ps does not list it: OLLAMA_KEEP_ALIVE may be 0.")
            found = placed
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=False, model=found.model, size=found.size, size_vram=found.size_vram, problem=found.problem)


if __name__ == "__main__":
    main()
