# SPDX-License-Identifier: Apache-2.0
"""Where systemd looks for the files of a unit, and which of them win: systemd.unit(5), "Unit File Load Path".

A scan of the folders and not a question to systemd: it gives the same answer on a host where none is running, and it sees a file
that systemd will only read at its next reload.
"""

import os
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..host.errors import ForjaError

TYPES = ("service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
_UNIT = re.compile(fr"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]*)?\.({'|'.join(TYPES)})\Z")

_SYSTEM = ("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/run/systemd/generator.early",
           "/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system", "/run/systemd/system.attached",
           "/run/systemd/generator", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
           "/run/systemd/generator.late")
_GLOBAL = ("/etc/systemd/user", "/run/systemd/user", "/usr/local/share/systemd/user", "/usr/share/systemd/user",
           "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")


class Place(NamedTuple):
    """One of systemd's three sets of unit folders, under `root`, and who owns the files in it."""

    scope: str      # system, user or global
    search: Tuple[str, ...]  # folders with units, the most important first
    config: str     # the folder of `search` that we write to
    runtime: str    # /run, or the user's own part of it
    root: str
    uid: int
    gid: int

    @property
    def manager(self) -> str:
        """The folder that exists while a systemd for this place is running; empty for global, which is read by many."""
        return {"system": self.runtime + "/systemd/system", "user": self.runtime + "/systemd", "global": ""}[self.scope]


def place(scope: str, root: str, uid: int, gid: int, home: str) -> Place:
    """The folders of a scope. `home`, `uid` and `gid` are the caller's and count for the scope user; the others belong to root."""
    root = root.rstrip("/")
    if scope == "system":
        search, config, runtime = [root + path for path in _SYSTEM], root + "/etc/systemd/system", root + "/run"
    else:
        search, config, runtime = [root + path for path in _GLOBAL], root + "/etc/systemd/user", root + "/run"
    if scope == "user":
        runtime = f"{root}/run/user/{uid}"
        config = root + home + "/.config/systemd/user"
        search = [root + home + "/.config/systemd/user.control", runtime + "/systemd/user.control", runtime + "/systemd/transient",
                  runtime + "/systemd/generator.early", config, root + "/etc/xdg/systemd/user", search[0], runtime + "/systemd/user",
                  search[1], runtime + "/systemd/generator", root + home + "/.local/share/systemd/user", *search[2:],
                  runtime + "/systemd/generator.late"]
    owner = (uid, gid) if scope == "user" else (0, 0)
    return Place(scope, tuple(_without_links(search)), config, runtime, root, *owner)


def check_unit(unit: str) -> None:
    """Refuses what is not the full name of a unit."""
    if not _UNIT.match(unit) or len(unit) > 255:
        raise ForjaError(
            f"unit: {unit!r} is not the name of a unit; write it with its suffix, one of .{', .'.join(TYPES)}: for example ollama.service, "
            "foo@bar.service for an instance or foo@.service for a template"
        )


def template_of(unit: str) -> Optional[str]:
    """foo@.service for foo@bar.service, None for a unit without an instance."""
    prefix, at, rest = unit.partition("@")
    template = f"{prefix}@.{rest.rpartition('.')[2]}"
    return template if at and template != unit else None


def fragment(where: Place, unit: str) -> Optional[str]:
    """The unit's own file: the first on the search path, an instance may use its template's. None where it is not installed."""
    for name in [unit, template_of(unit)]:
        for folder in where.search if name else ():
            if os.path.lexists(f"{folder}/{name}"):
                return f"{folder}/{name}"
    return None


def drop_ins(where: Place, unit: str, ours: str, leaving: Sequence[str] = ()) -> List[str]:
    """The drop-ins that count for a unit in the order systemd reads them: by file name, wherever they lie.

    A file hides those of the same name in less important folders. `ours` counts as being there even if it is not yet, and
    those that are `leaving` as gone; if ours is not in the answer, the file of its name that is there hides it.
    """
    winners: Dict[str, str] = {}
    for folder in _drop_in_folders(where, unit):
        try:
            names = os.listdir(folder)
        except OSError:
            names = []
        if folder == os.path.dirname(ours):
            names.append(os.path.basename(ours))
        for name in names:
            if name.endswith(".conf") and not name.startswith(".") and folder + "/" + name not in leaving:
                winners.setdefault(name, folder + "/" + name)
    return [winners[name] for name in sorted(winners)]


def instances(where: Place, unit: str) -> List[str]:
    """The instances of a template that have a drop-in folder of their own."""
    if "@." not in unit:
        return []
    prefix, suffix = unit.split("@.", 1)
    names = {name[:-2] for folder in where.search if os.path.isdir(folder) for name in os.listdir(folder) if name.endswith(".d")}
    return sorted(name for name in names if name.startswith(prefix + "@") and name.endswith("." + suffix) and name != unit)


def _drop_in_folders(where: Place, unit: str) -> List[str]:
    names = [name for known in _names(where, unit) for name in _expand(known)]
    # The folders for a whole type, such as service.d, come after all others.
    return [f"{folder}/{name}.d" for folder in where.search for name in names] + \
           [f"{folder}/{unit.rpartition('.')[2]}.d" for folder in where.search]


def _expand(unit: str) -> List[str]:
    """foo-bar@x.service, foo-bar@.service, foo-.service, foo-@x.service, foo-@.service: names whose .d folders count, closest first."""
    template = template_of(unit)
    names = [unit] + (_expand(template) if template else [])
    stem, _, suffix = unit.rpartition(".")
    prefix, _, instance = stem.partition("@")
    dash = prefix[:-1].rfind("-")  # a dash at the end is already the mark of such a name
    if dash > 0:
        names += _expand(prefix[:dash + 1] + ("@" + instance if instance else "") + "." + suffix)
    return names


def _names(where: Place, unit: str) -> List[str]:
    """The unit and its aliases: links between unit files, in both directions."""
    names, own = [unit], fragment(where, unit)
    if own and os.path.islink(own) and _UNIT.match(os.path.basename(os.readlink(own))):
        names.append(os.path.basename(os.readlink(own)))
    for folder in where.search:
        if os.path.isdir(folder):
            with os.scandir(folder) as files:
                names += [file.name for file in files if file.is_symlink() and file.name not in names and _UNIT.match(file.name)
                          and os.path.basename(os.readlink(file.path)) in names]
    return names


def _without_links(folders: List[str]) -> List[str]:
    """Without the folders that are others under a second name, as /lib is /usr/lib on most hosts."""
    real = [os.path.realpath(folder) for folder in folders]
    return [folder for position, folder in enumerate(folders) if real[position] not in real[:position]]
