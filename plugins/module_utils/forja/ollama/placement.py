# SPDX-License-Identifier: Apache-2.0
"""Where a loaded model is: in the memory of the GPU, or beside it. Ollama computes on the CPU without a word where it finds no GPU.

Source: Ollama 0.32, GET /api/ps: size is what a loaded model takes, size_vram what of it is in the GPUs' memory.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from .api import human


class Placement(NamedTuple):
    model: str
    size: int
    size_vram: int

    @property
    def problem(self) -> str:
        """What is wrong, in one sentence with what to do; empty where the whole model is in the GPUs' memory."""
        if self.size_vram >= self.size:
            return ""
        if self.size_vram == 0:
            return (f"{self.model} runs on the CPU though the host has a GPU with a driver. `journalctl --unit ollama` says why Ollama "
                    "found none (look for 'inference compute'); `systemctl restart ollama` helps where the GPU came late.")
        return (f"{human(self.size - self.size_vram)} of the {human(self.size)} of {self.model} are not in the GPU's memory, which makes "
                "it slow: choose a smaller model, or a smaller OLLAMA_CONTEXT_LENGTH in ollama_environment.")


def largest(tags: Dict[str, Any], names: List[str]) -> Optional[str]:
    """The largest of these models that is there; an answer of /api/tags."""
    wanted = {name.lower() if ":" in name.rpartition("/")[2] else f"{name.lower()}:latest" for name in names}
    there = [entry for entry in tags.get("models") or [] if entry["name"].lower() in wanted]
    return str(max(there, key=lambda entry: int(entry["size"]))["name"]) if there else None


def find(loaded: Dict[str, Any], name: str) -> Optional[Placement]:
    """A model in an answer of /api/ps."""
    for entry in loaded.get("models") or []:
        if entry["name"] == name:
            return Placement(name, int(entry["size"]), int(entry["size_vram"]))
    return None
