# SPDX-License-Identifier: Apache-2.0
"""One drop-in file of a systemd unit: what is wanted, what is there, and what has to be done. dropin_apply does it."""

import os
import re
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError
from . import paths as unit_paths
from . import pending as dropin_debt
from . import semantics as unit_meaning
from . import unit_file
from .manager import Clock, Manager, Properties, older_than, property_of, running
from .paths import Place
from .unit_file import Entry

MODE = 0o644
_FILE_NAME = re.compile(r"[A-Za-z0-9_@:-][A-Za-z0-9_.@:-]*\Z")
_MARK = "Written by Forja (systemd_dropin, name: {})"  # the start of the first line tells our files from those of others
_EXEC_SECTIONS = {"service": "Service", "socket": "Socket", "mount": "Mount", "swap": "Swap"}  # types that start programs


class Want(NamedTuple):
    """What the caller asks for. `entries` is None for state absent."""

    unit: str
    name: str
    path: str
    entries: Optional[List[Entry]]
    booleans: FrozenSet[Tuple[str, str]]
    reload: bool
    restart: bool

    @property
    def text(self) -> str:
        return unit_file.render(_MARK.format(self.name) + ". Changes made here will be overwritten.", self.entries or [])


class Found(NamedTuple):
    """What is there. A kind is absent, file, directory, link, mask (a link to /dev/null) or other."""

    kind: str
    folder: str             # the kind of the <unit>.d directory
    files: Mapping[str, str]  # path -> text of our file and of those of ours with another order; bytes that are not UTF-8 as surrogates
    wrong: str              # what is wrong with the mode and owner of our file
    leftovers: List[str]    # unfinished files of a run that was cut off
    others: bool            # whether the directory is more than ours: foreign files lie in it, or it is a link
    unwritable: str         # the existing directory that we may not write to, empty if all is well
    mtime: Optional[float]
    units: List[Properties]  # what systemd knows; several for a template, none where no systemd is running
    installed: bool
    unreachable: str        # why there is no systemd to reload, empty if there is one
    undone: Optional[Dict[str, Optional[str]]]  # what the files were before a run that was cut off before it had reloaded and restarted


class Step(NamedTuple):
    """One thing to do, and the sentence that says so."""

    action: str  # mkdir, write, own, remove, rmdir, reload or restart
    target: str
    text: str


def want(where: Place, unit: str, name: str, order: Optional[int], settings: Mapping[str, Any], environment: Mapping[str, Any],
         present: bool, reload: bool, restart: bool) -> Want:
    """Checks the parameters; ForjaError says what is wrong with them."""
    unit_paths.check_unit(unit)
    if not _FILE_NAME.match(name) or name.endswith(".conf"):
        raise ForjaError(f"name: {name!r} does not do; write letters, digits and _.@:-, without the ending .conf")
    if order is not None and not 0 <= order <= 99:
        raise ForjaError(f"order: {order} is not between 0 and 99")
    if restart and not reload:
        raise ForjaError("restart: changed needs reload: true, a unit restarted without a reload runs with its old settings")
    entries, booleans = unit_file.entries_from(settings)
    kind = unit.rpartition(".")[2]
    if environment and kind not in _EXEC_SECTIONS:
        raise ForjaError(f"environment: a .{kind} unit starts no program, only a {', '.join(_EXEC_SECTIONS)} does")
    entries += unit_file.environment_entries(_EXEC_SECTIONS.get(kind, ""), environment)
    file_name = f"{name}.conf" if order is None else f"{order:02d}-{name}.conf"
    path = f"{where.config}/{unit}.d/{file_name}"
    return Want(unit, name, path, entries if present else None, booleans, reload, restart)


def gather(place: Place, manager: Manager, goal: Want) -> Found:
    """Looks at the files and asks systemd."""
    folder = os.path.dirname(goal.path)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    ours = re.compile(rf"(\d\d-)?{re.escape(goal.name)}\.conf\Z")
    files = {path: read(path) for path in [f"{folder}/{name}" for name in names if ours.match(name)] if _kind(path) == "file"}
    files = {path: text for path, text in files.items() if path == goal.path or is_ours(text, goal.name)}
    drafts = re.compile(rf"\.(\d\d-)?{re.escape(goal.name)}\.conf\.")
    leftovers = [f"{folder}/{name}" for name in names if drafts.match(name)]
    others = os.path.islink(folder) or len(names) > len(files) + len(leftovers)
    wrong, mtime = "", None
    if goal.path in files:
        info = os.stat(goal.path)
        mtime = info.st_mtime
        if (info.st_mode & 0o7777, info.st_uid, info.st_gid) != (MODE, place.uid, place.gid):
            wrong = f"mode {info.st_mode & 0o7777:04o}, owner {info.st_uid}:{info.st_gid}"
    parent = folder
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    properties = [property_of(entry.section, entry.key) for entry in goal.entries or []]
    unreachable, units = _unreachable(place), []
    if not unreachable:
        # A template itself has no state, its instances have.
        units = manager.show(goal.unit.replace("@.", "@*."), sorted({name for name in properties if name}))
    installed = bool(unit_paths.fragment(place, goal.unit)) or any(unit.get("LoadState") == "loaded" for unit in units)
    unwritable = "" if os.access(parent, os.W_OK | os.X_OK) else parent
    return Found(_kind(goal.path), _kind(folder), files, wrong, leftovers, others, unwritable, mtime, units, installed, unreachable,
                 dropin_debt.owed(place, goal.unit, goal.name))


def plan(found: Found, goal: Want, place: Place) -> List[Step]:
    """The steps from what is there to what is wanted; none if it means the same already. ForjaError if something is in the way."""
    steps: List[Step] = []
    folder = os.path.dirname(goal.path)
    text = found.files.get(goal.path)
    wanted = unit_meaning.meaning(goal.entries or [], goal.booleans)
    same = text is not None and "\0" not in text and unit_meaning.meaning(unit_file.parse(text), goal.booleans) == wanted
    _refuse_obstacles(found, goal, same)
    if goal.entries is not None:
        if found.folder == "absent":
            steps.append(Step("mkdir", folder, f"create {folder}"))
        if not same:
            steps.append(Step("write", goal.path, f"{'create' if text is None else 'rewrite'} {goal.path}"))
        elif found.wrong:
            steps.append(Step("own", goal.path, f"give {goal.path} the mode {MODE:04o} and the owner {place.uid}:{place.gid} (found "
                                                f"{found.wrong})"))
    going = [path for path in found.files if goal.entries is None or path != goal.path]
    steps += [Step("remove", path, f"remove {path}") for path in going]
    changed = any(step.action in ("write", "remove") for step in steps)
    steps += [Step("remove", path, f"remove {path}, left over from a run that was cut off") for path in found.leftovers]
    if goal.entries is None and found.folder == "directory" and not found.others:
        steps.append(Step("rmdir", folder, f"remove {folder}, which is then empty"))
    if steps and found.unwritable:
        raise ForjaError(f"{found.unwritable} cannot be written to (this run may not, or the file system is read-only); nothing was "
                          "changed"
                          )
    if (changed or found.undone is not None) and not found.unreachable:
        late = "" if changed else ", which a run that was cut off still owes"
        if goal.reload:
            steps.append(Step("reload", "systemd", "make systemd read its unit files again" + late))
        if goal.restart:
            steps += [Step("restart", unit["Id"], f"restart {unit['Id']}{late}") for unit in found.units if running(unit)]
    return steps


def notes(found: Found, goal: Want, steps: List[Step]) -> List[str]:
    """What a person should know besides the steps."""
    result = []
    if not found.installed and goal.entries is not None:
        result.append(f"{goal.unit} is not installed: the drop-in counts once it is")
    if changes(steps) and found.unreachable and (goal.reload or goal.restart):
        result.append(f"no reload and no restart: {found.unreachable}")
    elif changes(steps) and goal.restart and not any(step.action == "restart" for step in steps):
        result.append(f"{goal.unit} is not running, so nothing was restarted")
    text = found.files.get(goal.path)
    if text is not None and not changes(steps) and not is_ours(text, goal.name):
        result.append(f"{goal.path} was not written by this module; it says the same and is left as it is")
    if not steps and any(unit.get("NeedDaemonReload") == "yes" for unit in found.units):
        result.append(f"systemd has not yet read what changed on disk for {goal.unit} (not by this run): systemctl daemon-reload")
    if goal.entries is None and found.kind == "mask":
        result.append(f"{goal.path} is a link to /dev/null that was not made by this module: it is left as it is")
    return result


def changes(steps: List[Step]) -> bool:
    """Whether the steps change what systemd reads: a corrected mode does not."""
    return any(step.action == "write" or (step.action == "remove" and step.target.endswith(".conf")) for step in steps)


def read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


def is_ours(text: str, name: str) -> bool:
    return text.startswith("# " + _MARK.format(name))


def effective(found: Found, goal: Want) -> Dict[str, Dict[str, Optional[str]]]:
    """section -> key -> what `systemctl show` prints for it. None where it prints nothing, for a template, and without a systemd."""
    unit = found.units[0] if len(found.units) == 1 and "@." not in goal.unit else {}
    result: Dict[str, Dict[str, Optional[str]]] = {}
    for section, key, _ in goal.entries or []:
        value = unit.get(property_of(section, key) or "") if unit.get("LoadState") == "loaded" else None
        result.setdefault(section, {})[key] = None if value == "[unprintable]" else value
    return result


def diff(found: Found, goal: Want, steps: List[Step]) -> List[Dict[str, str]]:
    """What Ansible shows with --diff: one entry for each file that the steps touch."""
    result = []
    for step in steps:
        if step.action == "own":
            result.append({"before_header": step.target, "after_header": step.target, "before": found.wrong + "\n",
                           "after": step.text.partition(" (found")[0] + "\n"})
        elif step.action == "write" or (step.action == "remove" and step.target in found.files):
            before = found.files.get(step.target, "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            result.append({"before_header": step.target, "after_header": step.target, "before": before,
                           "after": goal.text if step.action == "write" else ""})
    return result


def restart_pending(found: Found, steps: List[Step], now: Clock) -> bool:
    """Whether a unit runs with older settings, once the steps are done. `found` may be from before them (check mode) or after."""
    if any(step.action == "restart" for step in steps):
        return False
    return any(running(unit) and (changes(steps) or older_than(unit, found.mtime, now)) for unit in found.units)


def states(found: Found) -> List[Dict[str, Any]]:
    """Each loaded unit's name, state and main process (0: none)."""
    return [{"name": unit.get("Id", ""), "active_state": unit.get("ActiveState", ""), "main_pid": int(unit.get("MainPID") or 0)}
            for unit in found.units]


def _refuse_obstacles(found: Found, goal: Want, same: bool) -> None:
    folder, text = os.path.dirname(goal.path), found.files.get(goal.path)
    if found.folder not in ("absent", "directory"):
        raise ForjaError(f"{folder} is in the way: wanted a directory, found a {found.folder}; move it away")
    if found.kind == "mask" and goal.entries is not None:
        raise ForjaError(f"{goal.path} is a link to /dev/null: somebody masked this drop-in; remove the link if it is to count")
    if found.kind not in ("absent", "file", "mask"):
        raise ForjaError(f"{goal.path} is in the way: wanted a file, found a {found.kind}; move it away or choose another name")
    # A file without settings is replaced, or one with NUL bytes, as a power cut leaves them. Settings of somebody else are not.
    settled = text is not None and "\0" not in text and any(entry.key for entry in unit_file.parse(text))
    if text is not None and settled and not same and not is_ours(text, goal.name):
        raise ForjaError(f"{goal.path} was not written by this module and says something else (a file of this module starts with '# "
                          f"{_MARK.format(goal.name)}'); remove "
                          "it or choose another name")


def _unreachable(where: Place) -> str:
    if where.scope == "global":
        return "each user's systemd reads these files at its own next reload or login"
    if os.path.isdir(where.manager):
        return ""
    return f"no systemd is running for the scope {where.scope} ({where.manager} is missing)"


def _kind(path: str) -> str:
    if os.path.islink(path) and os.path.realpath(path) == "/dev/null":
        return "mask"
    if os.path.isdir(path):
        return "directory"
    if os.path.islink(path):
        return "link"
    return "file" if os.path.isfile(path) else "other" if os.path.exists(path) else "absent"
