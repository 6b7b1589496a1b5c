# SPDX-License-Identifier: Apache-2.0
"""What a unit comes to with all its files: the settings that count, each with the file that it is from.

Reads the files and not systemd's answer, so that it also tells what will count once a file is written that is not there yet.
"""

import glob
import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError
from . import paths as unit_paths
from .paths import Place
from .unit_file import Entry, assignments, parse, words

File = Tuple[str, List[Entry]]  # path and content


class Setting(NamedTuple):
    value: str
    path: str  # the file that sets it


def unit_files(place: Place, unit: str, written: Mapping[str, str]) -> List[File]:
    """Return the files of a unit in the order in which systemd reads them: its own, then the drop-ins.

    `written` holds the text of files that this run writes, by path: the unit's own file and at most one drop-in. They count with
    that text, whether they exist or not.
    """
    own = unit_paths.fragment(place, unit)
    drop_in = ""
    for path in written:
        if os.path.basename(path) != unit:
            drop_in = path
        elif own is None or _rank(place, path) <= _rank(place, own):
            own = path
    paths = ([own] if own else []) + unit_paths.drop_ins(place, unit, drop_in)
    return [(path, parse(written[path] if path in written else _text(path))) for path in paths]


def environment(files: List[File], root: str = "") -> Dict[str, Setting]:
    """Return the environment of a service's programs, with EnvironmentFile= and UnsetEnvironment= applied."""
    result: Dict[str, Setting] = {}
    patterns: List[str] = []
    unset: List[str] = []
    for path, entries in files:
        for section, key, value in entries:
            if section != "Service":
                continue
            if key == "Environment":
                result = {} if value == "" else result
                result.update({name: Setting(text.replace("%%", "%"), path) for name, text in assignments(value).items()})
            elif key == "EnvironmentFile":
                patterns = patterns + [value.lstrip("-")] if value else []
            elif key == "UnsetEnvironment":
                unset = unset + _words(value) if value else []
    for pattern in patterns:
        for path in sorted(glob.glob(root + pattern)):
            for entry in parse("[File]\n" + _text(path)):
                unquoted = _words(entry.value)
                result[entry.key] = Setting(unquoted[0] if len(unquoted) == 1 else entry.value, path)
    return {name: setting for name, setting in result.items() if name and not {name, f"{name}={setting.value}"} & set(unset)}


def last(files: List[File], key: str, section: str = "Service") -> Optional[Setting]:
    """Return the setting that counts of a key that each later file replaces; None where no file sets it, or the last one resets it."""
    found = [Setting(entry.value, path) for path, entries in files for entry in entries if (entry.section, entry.key) == (section, key)]
    return found[-1] if found and found[-1].value else None


def listed(files: List[File], key: str, section: str = "Service") -> List[Setting]:
    """Return the words of a key that collects them over all files until an empty assignment resets it."""
    found: List[Setting] = []
    for path, entries in files:
        for entry in entries:
            if (entry.section, entry.key) == (section, key):
                found = found + [Setting(word.replace("%%", "%"), path) for word in _words(entry.value)] if entry.value else []
    return found


def _rank(place: Place, path: str) -> int:
    folder = os.path.dirname(path)
    return place.search.index(folder) if folder in place.search else len(place.search)


def _words(value: str) -> List[str]:
    try:
        return words(value)
    except ForjaError:
        return []


def _text(path: str) -> str:
    """Read a regular file, a pipe must not make us wait; empty where that is not possible."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
