# SPDX-License-Identifier: Apache-2.0
"""A unit file of our own: what is there, what has to be done, and the way back to the files that worked."""

import os
import re
import shutil
import tempfile
from typing import Dict, List, NamedTuple, Optional

from ..host import atomic
from ..host.errors import ForjaError
from ..host.run import Run
from . import paths as unit_paths
from . import snapshot
from .manager import Clock, Manager, Properties
from .paths import Place

# Lines about the text that do not keep systemd from using it.
_HARMLESS = re.compile("please use|obsolete|deprecated|updating|will be removed|not executable|man:", re.IGNORECASE)


class Unit(NamedTuple):
    """What is asked for, and what reaches the host."""

    place: Place
    manager: Manager
    run: Run
    name: str
    content: Optional[str]
    keep: List[str]
    wanted: str  # present, absent or restored
    analyze: Optional[str]

    @property
    def path(self) -> str:
        return f"{self.place.config}/{self.name}"

    @property
    def files(self) -> List[str]:
        """The files that belong to the unit: its own, the drop-ins beside it, and those to keep."""
        folder = f"{self.path}.d"
        names = sorted(name for name in os.listdir(folder) if name.endswith(".conf")) if os.path.isdir(folder) else []
        return [self.path, *(f"{folder}/{name}" for name in names), *self.keep]


class State(NamedTuple):
    text: Optional[str]
    kept: Optional[snapshot.Files]
    changed: List[str]  # files that differ from the kept ones
    running: bool
    refused: List[str]  # what systemd-analyze says against the content


def keep(unit: Unit, now: Clock) -> None:
    """Keep the files if the unit runs with them as they are."""
    if unit.wanted == "present" and snapshot.works(_units(unit), unit.files, now):
        snapshot.take(unit.place, unit.name, snapshot.read_files(unit.files))


def gather(unit: Unit) -> State:
    raw = atomic.read(unit.path)
    text = None if raw is None else raw.decode("utf-8", "surrogateescape")
    kept = snapshot.taken(unit.place, unit.name) if unit.wanted == "restored" else None
    # A drop-in that was not there then is not in the kept files: it goes away again.
    former = dict(dict.fromkeys(unit.files), **kept) if kept else {}
    now = snapshot.read_files(former)
    changed = [path for path, content in former.items() if now[path] != content]
    running = any(one.get("ActiveState") == "active" for one in _units(unit))
    refused = verify(unit) if unit.wanted == "present" and text != unit.content else []
    return State(text, former or None, changed, running, refused)


def plan(unit: Unit, state: State) -> List[str]:
    """Plan the steps. ForjaError with systemd's own words where it would ignore a line of the unit."""
    if state.refused:
        raise ForjaError("systemd refuses the unit {}, nothing was changed:\n{}".format(unit.name, "\n".join(state.refused)))
    if unit.wanted == "restored":
        steps = [f"restore {path}" for path in state.changed]
        return [*steps, f"start {unit.name}"] if steps or (state.kept and not state.running) else []
    if unit.wanted == "absent":
        return [f"remove {unit.path}"] if state.text is not None else []
    return [f"write {unit.path}"] if state.text != unit.content else []


def apply(unit: Unit, state: State, steps: List[str]) -> None:
    """Apply the steps and reload systemd."""
    if unit.wanted == "present":
        atomic.replace(unit.path, (unit.content or "").encode("utf-8", "surrogateescape"))
    elif unit.wanted == "absent":
        atomic.replace(unit.path, None)
        snapshot.drop(unit.place, unit.name)
    else:
        snapshot.put_back(state.kept or {})
    unit.manager.systemctl("daemon-reload")
    if unit.wanted == "restored":
        unit.manager.start_again([unit.name])


def diff(unit: Unit, before: State) -> Dict[str, str]:
    """Return what --diff shows."""
    former = (before.kept or {}).get(unit.path)
    after = {"present": unit.content, "absent": "", "restored": before.text if before.kept is None else former}[unit.wanted]
    return {"before_header": unit.path, "after_header": unit.path, "before": before.text or "", "after": after or ""}


def pending(unit: Unit, now: Clock) -> bool:
    """Whether the unit runs with older files than those on disk."""
    return snapshot.pending(_units(unit), unit.files, now)


def verify(unit: Unit) -> List[str]:
    """Return what `systemd-analyze verify` says against the lines of the content; empty without that program."""
    if not unit.analyze:
        return []
    scratch = os.path.realpath(tempfile.mkdtemp(prefix="forja-verify-"))
    try:
        draft = f"{scratch}/{unit.name}"
        with open(draft, "wb") as file:
            file.write((unit.content or "").encode("utf-8", "surrogateescape"))
        _, out, err = unit.run([unit.analyze, "--man=no", "verify", draft])
        lines = dict.fromkeys((out + "\n" + err).split("\n"))
        return [line.replace(draft, unit.path) for line in lines if draft in line and not _HARMLESS.search(line)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _units(unit: Unit) -> List[Properties]:
    if not os.path.isdir(unit.place.manager) or unit_paths.fragment(unit.place, unit.name) is None:
        return []
    return unit.manager.show(unit.name, [])
