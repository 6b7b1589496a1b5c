# SPDX-License-Identifier: Apache-2.0
"""What keeps the settings of a drop-in from taking effect: later drop-ins, hiding files, environment files, a masked unit."""

import glob
import os
from typing import Any, Dict, FrozenSet, List, Sequence, Tuple

from ..host.errors import ForjaError
from . import paths as unit_paths
from .paths import Place
from .semantics import DEPENDENCIES, accumulates, list_of, same_value
from .unit_file import Entry, assignments, parse, words

File = Tuple[str, List[Entry]]  # path and content


def warnings(where: Place, unit: str, ours: str, entries: List[Entry], booleans: FrozenSet[Tuple[str, str]],
             leaving: Sequence[str] = ()) -> List[str]:
    """One sentence for each setting of ours that another file overrides; for a template also what overrides it in an instance.

    `leaving` are drop-ins that are about to be removed.
    """
    found: List[str] = []
    for name in [unit] + unit_paths.instances(where, unit):
        suffix = "" if name == unit else " for " + name
        paths = unit_paths.drop_ins(where, name, ours, leaving)
        hiding = [path for path in paths if os.path.basename(path) == os.path.basename(ours)]
        own = unit_paths.fragment(where, name)
        if own and os.path.realpath(own) == "/dev/null":
            found.append(f"{name} is masked ({own}): it cannot start, with or without {ours}")
        elif hiding != [ours]:
            found.append(f"{hiding[0]} has the same file name and hides {ours}{suffix}")
        else:
            files = [(path, entries if path == ours else _read(path)) for path in ([own] if own else []) + paths]
            later = files[[path for path, _ in files].index(ours) + 1:]
            found += [f"{path} overrides {key} of {ours}{suffix}"
                      for path, key in overridden(entries, later, booleans) + _environment_overrides(where, entries, files)]
    return _unique(found)


def overridden(entries: List[Entry], later: List[File], booleans: FrozenSet[Tuple[str, str]] = frozenset()) -> List[Tuple[str, str]]:
    """(path, key) of what files that systemd reads after ours override.

    A later assignment replaces ours, unless it says the same. For a list that accumulates only a reset takes our values away, and for
    Environment= also a later value for the same variable. Dependencies cannot be taken away.
    """
    found: List[Tuple[str, str]] = []
    for section, key in _unique((entry.section, entry.key) for entry in entries):
        ours = [entry.value for entry in entries if (entry.section, entry.key) == (section, key)]
        if key == "Environment":
            found += [(path, f"Environment={name}") for path, name in _variables(section, ours, later)]
        elif key in DEPENDENCIES:
            continue
        elif accumulates(section, key):
            list_name = list_of(section, key)
            found += [(path, key + "=") for path, others in later if ours[-1] != "" and any(
                (other.section, list_of(section, other.key), other.value) == (section, list_name, "") for other in others)]
        else:
            last = [(path, other.value) for path, others in later for other in others if (other.section, other.key) == (section, key)][-1:]
            boolean = (section, key) in booleans
            found += [(path, key + "=") for path, value in last if same_value(key, value, boolean) != same_value(key, ours[-1], boolean)]
    return found


def _variables(section: str, ours: List[str], later: List[File]) -> List[Tuple[str, str]]:
    """(path, variable) for the variables of ours that end up with another value or none."""
    wanted = _environment(ours)
    winner: Dict[str, Tuple[str, Any]] = {}
    for path, entries in later:
        for entry in entries:
            if (entry.section, entry.key) == (section, "Environment"):
                changes: Dict[str, Any] = dict.fromkeys(wanted) if entry.value == "" else dict(assignments(entry.value))
                winner.update({name: (path, value) for name, value in changes.items()})
    return [(winner[name][0], name) for name in wanted if name in winner and winner[name][1] != wanted[name]]


def _environment_overrides(where: Place, entries: List[Entry], files: List[File]) -> List[Tuple[str, str]]:
    """(path, variable) for EnvironmentFile= and UnsetEnvironment=, which win over Environment= wherever they stand."""
    found: List[Tuple[str, str]] = []
    for section in _unique(entry.section for entry in entries if entry.key == "Environment"):
        wanted = _environment([entry.value for entry in entries if (entry.section, entry.key) == (section, "Environment")])
        plain = {name: value.replace("%%", "%") for name, value in wanted.items()}
        patterns: List[str] = []
        for path, others in files:
            for entry in others:
                if (entry.section, entry.key) == (section, "EnvironmentFile"):
                    patterns = patterns + [entry.value.lstrip("-")] if entry.value else []
                elif (entry.section, entry.key) == (section, "UnsetEnvironment"):
                    found += [(path, f"Environment={name}") for name, value in wanted.items()
                              if {name, f"{name}={value}"} & set(_words(entry.value))]
        for pattern in patterns:  # a specifier such as %i makes no file name, so glob finds nothing for it
            for path in sorted(glob.glob(where.root + pattern)):
                given = {entry.key: entry.value for entry in parse("[File]\n" + _text(path))}
                found += [(path, f"Environment={name}") for name, value in plain.items()
                          if name in given and given[name] != value and _words(given[name]) != [value]]
    return found


def _environment(values: List[str]) -> Dict[str, str]:
    result: Dict[str, str] = {}
    for value in values:
        result = dict(result, **assignments(value)) if value else {}
    return result


def _words(value: str) -> List[str]:
    try:
        return words(value)
    except ForjaError:
        return []


def _text(path: str) -> str:
    """The text of a file, empty for what is no readable file: a pipe must not make us wait."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _read(path: str) -> List[Entry]:
    return parse(_text(path))


def _unique(items: Any) -> List[Any]:
    return list(dict.fromkeys(items))
