# SPDX-License-Identifier: Apache-2.0
"""The state's layout, read from the library's own headers, so that it is written down once."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

# Beside this package in a checkout and where the lab's image installs it.
SOURCES = Path(__file__).resolve().parents[1] / "src"

SCALARS: dict[str, Any] = {"uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "char": ctypes.c_char}


def _text(name: str) -> str:
    return re.sub(r"//.*", "", (SOURCES / name).read_text(encoding="utf-8"))


def _numbers(text: str) -> dict[str, int]:
    return {name: int(value, 0) for name, value in re.findall(r"^#define (\w+) (\w+)$", text, re.MULTILINE)}


def _structs(text: str, numbers: dict[str, int]) -> dict[str, type[ctypes.Structure]]:
    structs: dict[str, type[ctypes.Structure]] = {}
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, re.MULTILINE | re.DOTALL):
        fields = []
        for kind, member, sizes in re.findall(r"(?:struct )?(\w+) (\w+)((?:\[\w+\])*);", body):
            form: Any = SCALARS.get(kind) or structs[kind]
            # The last dimension is the innermost.
            for size in reversed(re.findall(r"\[(\w+)\]", sizes)):
                form = form * (numbers.get(size) or int(size))
            fields.append((member, form))
        structs[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return structs


_HEADER = _text("state.h")
NUMBERS = _numbers(_HEADER)
STRUCTS = _structs(_HEADER, NUMBERS)
State: Any = STRUCTS["sim_state"]
NONE = NUMBERS["SIM_NONE"]

# Function name -> whether a call can alter a GPU, in the order of their numbers.
FUNCTIONS = {name: kind == "CHANGES" for kind, name in re.findall(r"^(READS|CHANGES)\((\w+)\)$", _text("functions.h"), re.MULTILINE)}
NAMES = list(FUNCTIONS)

# Error name without its prefix -> code, such as IN_USE: 19.
CODES = {name: int(code) for name, code in re.findall(r"NVML_(?:ERROR_)?(\w+) = (\d+),", _text("nvml.h"))}
