# SPDX-License-Identifier: Apache-2.0
"""A file of secrets in the form of env files: made once on the host, readable by root only, never returned."""

import os
import re
import secrets
import stat
from typing import Dict, List, Mapping, NamedTuple

from . import atomic
from .errors import ForjaError

_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z")
MODE = 0o600
RANDOM_BYTES = 32


class State(NamedTuple):
    """What the file holds, its mode and its owner; an empty dictionary and -1 where it does not exist."""

    values: Dict[str, str]
    mode: int
    owner: int


def parse(text: str) -> Dict[str, str]:
    matches = [_LINE.match(line) for line in text.splitlines()]
    return {match.group(1): match.group(2) for match in matches if match}


def render(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(values.items()))


def check(wanted: Mapping[str, str]) -> None:
    """Refuse what an env file cannot hold."""
    for name, value in wanted.items():
        if not _LINE.match(f"{name}=") or "\n" in value or "\r" in value:
            raise ForjaError(f"The secret {name!r} cannot be written to an env file: use one line, and a name of letters, digits and _.")


def gather(path: str) -> State:
    raw = atomic.read(path)
    if raw is None:
        return State({}, -1, -1)
    found = os.stat(path)
    return State(parse(raw.decode("utf-8", "replace")), stat.S_IMODE(found.st_mode), found.st_uid)


def plan(state: State, wanted: Mapping[str, str]) -> List[str]:
    """Plan one step for each name: an empty value in `wanted` stands for a random one, which is kept once it exists."""
    steps = []
    for name, value in sorted(wanted.items()):
        kept = state.values.get(name, "")
        if not kept and not value:
            steps.append(f"generate {name}")
        elif value and kept != value:
            steps.append(f"set {name}")
    steps += [f"remove {name}" for name in sorted(set(state.values) - set(wanted))]
    if state.mode != -1 and (state.mode != MODE or state.owner != 0):
        steps.append("make the file readable by root only")
    return steps


def apply(path: str, state: State, wanted: Mapping[str, str]) -> None:
    values = {name: value or state.values.get(name) or secrets.token_urlsafe(RANDOM_BYTES) for name, value in wanted.items()}
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o700)
    if state.mode != -1:
        os.chown(path, 0, 0)
        os.chmod(path, MODE)
    atomic.replace(path, render(values).encode("utf-8"), MODE)
