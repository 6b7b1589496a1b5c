#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: ollama_choice
short_description: Chooses models for Ollama that fit the memory of the card
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Takes for each purpose of a catalogue the largest model that fits the card's total memory minus a reserve, and the largest context
    with which all of them fit one at a time. The largest card of the host counts.
  - The choice is kept in a file. Later runs return it until the card or the reserve changes, or the file is deleted.
  - The memory is read from C(nvidia-smi), in WSL from that of Windows, and from the driver amdgpu. A host where none answers gets no
    choice yet, which is no error, because the driver may need a reboot first.
attributes:
  check_mode:
    description: Predicts exactly.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
options:
  catalogue:
    description:
      - Models by purpose, each with C(name), C(purpose), C(gb) (the size of its file in GB) and C(cache_kib) (the KiB of cache that a
        token of context takes).
    type: list
    elements: dict
    default: []
  reserve_mib:
    description: The MiB of the card that other programs need, such as the desktop or image generation.
    type: int
    default: 1024
  memory_mib:
    description: The MiB of the card's memory; V(0) reads them.
    type: int
    default: 0
  path:
    description: The file that keeps the choice.
    type: path
    default: /var/lib/forja/ollama-choice.json
"""

EXAMPLES = r"""
- name: Choose models
  forja.gpu.ollama_choice:
    catalogue:
      - {name: "llama3.1:8b", purpose: chat, gb: 4.9, cache_kib: 128}
      - {name: "llama3.2:3b", purpose: chat, gb: 2.0, cache_kib: 112}
  register: choice
"""

RETURN = r"""
models:
  description: The chosen models, as the role's C(ollama_models) has them; empty where the memory is not known or nothing fits.
  returned: success
  type: list
  elements: dict
  sample: [{name: "llama3.1:8b", state: present}]
context_length:
  description: The tokens of context with which each of them fits; 0 without models.
  returned: success
  type: int
memory_mib:
  description: The MiB of memory of the largest card; 0 where no card could be asked.
  returned: success
  type: int
problem:
  description: Why there are no models, with what to do; empty where there are some.
  returned: success
  type: str
"""

import glob
import os
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.atomic import read, replace
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import Run, module_run
from ..module_utils.forja.ollama.choice import parse, plan, read_amd, read_catalogue, read_nvidia

PROGRAMS = ("/usr/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")


def argument_spec() -> Dict[str, Any]:
    return {
        "catalogue": {"type": "list", "elements": "dict", "default": []},
        "reserve_mib": {"type": "int", "default": 1024},
        "memory_mib": {"type": "int", "default": 0},
        "path": {"type": "path", "default": "/var/lib/forja/ollama-choice.json"},
    }


def memory(run: Run) -> int:
    for program in PROGRAMS:
        if os.path.exists(program):
            result = run([program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"])
            if result.rc == 0 and read_nvidia(result.out):
                return read_nvidia(result.out)
    return read_amd((read(path) or b"").decode("ascii", "replace") for path in glob.glob("/sys/class/drm/card*/device/mem_info_vram_total"))


def problem(memory_mib: int, reserve_mib: int, models: int) -> str:
    if not memory_mib:
        return ("No card tells its memory yet, so that no models were chosen: run again when the GPU's driver runs, or set "
                "ollama_memory_mib.")
    if not models:
        return (f"No model of the catalogue fits {memory_mib} MiB with a reserve of {reserve_mib} MiB: lower ollama_reserve_mib, or name "
                "models in ollama_models.")
    return ""


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        before, catalogue = read(params["path"]), read_catalogue(params["catalogue"])
        memory_mib = params["memory_mib"] or memory(module_run(module))
        kept = parse(before)
        # A card that does not answer today is still the same card.
        choice = kept if kept and not memory_mib else plan(kept, catalogue, memory_mib, params["reserve_mib"])
        after = choice.render().encode() if choice.models else before
        if after != before and not module.check_mode:
            os.makedirs(os.path.dirname(params["path"]), mode=0o755, exist_ok=True)
            replace(params["path"], after)
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(
        changed=after != before, models=[{"name": name, "state": "present"} for name in choice.models],
        context_length=choice.context_length, memory_mib=choice.memory_mib,
        problem=problem(choice.memory_mib, params["reserve_mib"], len(choice.models)),
        diff={"before": (before or b"").decode("utf-8", "replace"), "after": (after or b"").decode()})


if __name__ == "__main__":
    main()
