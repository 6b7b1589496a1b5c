# SPDX-License-Identifier: Apache-2.0
"""The files of a service as they were when it last ran with them, to go back to when new ones do not work.

A snapshot is a file in /run. It is taken only while the unit runs with its files as they are on disk, so that a run that was
interrupted between writing and restarting does not replace the files that worked.
"""

import json
import os
from typing import Dict, Iterable, List, Optional

from ..host import atomic
from .manager import Clock, Properties, older_than, running
from .paths import Place

Files = Dict[str, Optional[str]]  # path -> text, None where there is no file


def read_files(paths: Iterable[str]) -> Files:
    """Read files as text; bytes that are not UTF-8 become surrogates."""
    result: Files = {}
    for path in paths:
        raw = atomic.read(path)
        result[path] = None if raw is None else raw.decode("utf-8", "surrogateescape")
    return result


def works(units: List[Properties], paths: Iterable[str], now: Clock) -> bool:
    """Whether the unit runs with the files as they are on disk."""
    newest = max([os.stat(path).st_mtime for path in paths if os.path.exists(path)], default=None)
    return bool(units) and all(unit.get("ActiveState") == "active" and not older_than(unit, newest, now) for unit in units)


def pending(units: List[Properties], paths: Iterable[str], now: Clock) -> bool:
    """Whether the unit runs with older files than those on disk."""
    newest = max([os.stat(path).st_mtime for path in paths if os.path.exists(path)], default=None)
    return any(running(unit) and older_than(unit, newest, now) for unit in units)


def take(place: Place, unit: str, files: Files) -> None:
    """Keep the files."""
    atomic.replace(_path(place, unit), json.dumps(files).encode("utf-8"), 0o600)


def taken(place: Place, unit: str) -> Optional[Files]:
    """Return the files that were kept, None where there are none."""
    raw = atomic.read(_path(place, unit))
    return dict(json.loads(raw.decode("utf-8"))) if raw else None


def put_back(files: Files) -> List[str]:
    """Put the files back; return the paths that changed."""
    now = read_files(files)
    changed = [path for path, text in files.items() if now[path] != text]
    for path in changed:
        text = files[path]
        atomic.replace(path, None if text is None else text.encode("utf-8", "surrogateescape"))
    return changed


def drop(place: Place, unit: str) -> None:
    """Forget the files."""
    atomic.replace(_path(place, unit), None)


def _path(place: Place, unit: str) -> str:
    return f"{place.runtime}/forja/{unit}.snapshot.json"
