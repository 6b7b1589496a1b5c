# SPDX-License-Identifier: Apache-2.0
"""A file in /run that stands there while a drop-in was changed and systemd has not yet been reloaded, or a unit not yet restarted.

A run that is cut off in between leaves it behind. The next one then still owes the reload and the restart, and knows what to go back
to if the unit does not start. A reboot settles the debt: then systemd has read everything.
"""

import json
import os
from typing import Dict, Optional

from .paths import Place

Files = Dict[str, Optional[str]]  # path -> text before the change, None where there was no file


def remember(place: Place, unit: str, name: str, before: Files) -> None:
    path = _path(place, unit, name)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(before, file)


def owed(place: Place, unit: str, name: str) -> Optional[Files]:
    """What there was before the run that was cut off, None if none was."""
    try:
        with open(_path(place, unit, name)) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}  # cut off while this was written, so before anything was changed


def settle(place: Place, unit: str, name: str) -> None:
    if os.path.exists(_path(place, unit, name)):
        os.unlink(_path(place, unit, name))


def _path(place: Place, unit: str, name: str) -> str:
    return f"{place.runtime}/forja/{unit}.{name}.json"
