# SPDX-License-Identifier: Apache-2.0
"""Marks on packages that keep apt from changing them."""

from fnmatch import fnmatchcase
from typing import List, NamedTuple, Set

from ..host.errors import ForjaError
from ..host.run import Run


class State(NamedTuple):
    installed: Set[str]
    held: Set[str]


def gather(run: Run) -> State:
    rc, out, err = run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\n"])
    if rc != 0:
        raise ForjaError(f"dpkg cannot tell what is installed: {err.strip()}")
    rows = [line.split() for line in out.splitlines()]
    there = [(row[0], row[1]) for row in rows if len(row) == 2 and row[1][1:2] not in ("c", "n")]
    return State({name for name, _ in there}, {name for name, status in there if status[0] == "h"})


def matching(names: Set[str], patterns: List[str], exclude: List[str]) -> Set[str]:
    """Return the names that one of `patterns` fits and none of `exclude`."""
    return {name for name in names if any(fnmatchcase(name, one) for one in patterns)
            and not any(fnmatchcase(name, one) for one in exclude)}


def plan(state: State, patterns: List[str], exclude: List[str], hold: bool) -> List[str]:
    """Return the packages whose mark has to change."""
    return sorted(matching(state.installed - state.held if hold else state.held, patterns, exclude))


def apply(run: Run, names: List[str], hold: bool) -> None:
    if not names:
        return
    rc, out, err = run(["apt-mark", "hold" if hold else "unhold"] + names)
    if rc != 0:
        raise ForjaError(f"apt-mark failed: {(err or out).strip()}")
