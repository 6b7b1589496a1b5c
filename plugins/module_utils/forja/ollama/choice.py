# SPDX-License-Identifier: Apache-2.0
"""Which models fit a card: a pure choice from a catalogue, by the card's total memory minus a reserve.

Total and not free memory, because the free one changes between runs and other programs want it too. A model needs its file and a
seventh more, the cache of its context, and what CUDA takes for itself; the rule is in docs/topics/ollama_models.md.
"""

import json
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from ..host.errors import ForjaError

MIB = 1024 * 1024
GROWTH = 1.15  # a file in memory, with the buffers beside it
RUNTIME = 800 * 1000 * 1000  # bytes that CUDA and the runner take
CONTEXTS = (32768, 16384, 8192, 4096)  # tokens, the largest that fits is taken; below the last a model is of little use


class Entry(NamedTuple):
    """A model of the catalogue: what it is for, the bytes of its file, and the bytes of cache that a token of context takes."""

    name: str
    purpose: str
    size: int
    token: int

    def needs(self, context: int) -> int:
        return int(self.size * GROWTH) + self.token * context + RUNTIME


class Choice(NamedTuple):
    """What was chosen, and from what: kept on the host, so that a later catalogue changes nothing by itself."""

    memory_mib: int
    reserve_mib: int
    context_length: int
    models: List[str]

    def render(self) -> str:
        return json.dumps(self._asdict(), indent=1, sort_keys=True) + "\n"


def parse(text: Optional[bytes]) -> Optional[Choice]:
    """A choice as it was kept; None where there is none, or the file is not one."""
    try:
        found = json.loads((text or b"").decode("utf-8"))
        numbers = [int(found[key]) for key in ("memory_mib", "reserve_mib", "context_length")]
        return Choice(numbers[0], numbers[1], numbers[2], [str(name) for name in found["models"]])
    except (ValueError, KeyError, TypeError):
        return None


def read_catalogue(entries: Iterable[Dict[str, Any]]) -> List[Entry]:
    found = []
    for entry in entries:
        try:
            found.append(Entry(str(entry["name"]), str(entry["purpose"]), int(float(entry["gb"]) * 1e9), int(entry["cache_kib"]) * 1024))
        except (KeyError, TypeError, ValueError):
            raise ForjaError(f"The catalogue has {entry}; wanted are name, purpose, gb (the size of its file in GB) and cache_kib (the KiB "
                              "of cache that a token of context takes).") from None
    return found


def choose(catalogue: List[Entry], memory_mib: int, reserve_mib: int) -> Choice:
    """For each purpose the largest model that fits with the smallest context; then the largest context with which all of them fit."""
    room = (memory_mib - reserve_mib) * MIB
    models: List[Entry] = []
    for purpose in dict.fromkeys(entry.purpose for entry in catalogue):
        fitting = [entry for entry in catalogue if entry.purpose == purpose and entry.needs(CONTEXTS[-1]) <= room]
        if fitting:
            models.append(max(fitting, key=lambda entry: entry.size))
    contexts = [context for context in CONTEXTS if all(model.needs(context) <= room for model in models)]
    return Choice(memory_mib, reserve_mib, contexts[0] if models else 0, list(dict.fromkeys(model.name for model in models)))


def plan(kept: Optional[Choice], catalogue: List[Entry], memory_mib: int, reserve_mib: int) -> Choice:
    """What was chosen before, as long as card and reserve are the same."""
    if kept and (kept.memory_mib, kept.reserve_mib) == (memory_mib, reserve_mib):
        return kept
    return choose(catalogue, memory_mib, reserve_mib)


def read_nvidia(text: str) -> int:
    """MiB of the largest card that nvidia-smi lists with --query-gpu=memory.total --format=csv,noheader,nounits; 0 for none."""
    return max((int(line) for line in text.split("\n") if re.fullmatch(r"\s*\d+\s*", line)), default=0)


def read_amd(contents: Iterable[str]) -> int:
    """MiB of the largest card by the bytes in /sys/class/drm/card*/device/mem_info_vram_total (amdgpu); 0 for none."""
    return max((int(content) // MIB for content in contents if content.strip().isdigit()), default=0)
