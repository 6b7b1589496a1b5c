# SPDX-License-Identifier: Apache-2.0
"""Installs and removes packages in one transaction of apt, which removes nothing that was not named."""

import fnmatch
import re
from typing import Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..host.errors import ForjaError
from ..host.run import Run
from . import hold
from .apt_get import APT_GET, complaints, refresh

INSTALL = APT_GET + [
    "--no-install-recommends",
    # A configuration file that a person changed stays; new ones take the package's version.
    "--option", "Dpkg::Options::=--force-confdef",
    "--option", "Dpkg::Options::=--force-confold",
]


class Wanted(NamedTuple):
    """A package, and the pattern that its version must match (empty: any)."""

    name: str
    version: str


class Together(NamedTuple):
    """Packages that change together or not at all: those that `patterns` fit and `exclude` does not, to be held or to be free."""

    patterns: List[str]
    exclude: List[str]
    held: bool


class State(NamedTuple):
    """What dpkg knows: versions of the packages that are installed, whether dpkg was cut off in the middle of something, and in what."""

    installed: Dict[str, str]
    interrupted: bool
    halves: Tuple[str, ...] = ()
    marks: Optional[hold.State] = None  # of all packages; None where nobody asks for them


class Plan(NamedTuple):
    install: List[Wanted]
    remove: List[str]
    repair: bool
    halves: Tuple[str, ...] = ()  # of `remove` those that are half installed
    replaced: Tuple[str, ...] = ()  # of `install` those that are there in another version
    held: List[str] = []  # what was to be removed, and because of which nothing is done
    mark: Tuple[str, ...] = ()  # packages to hold or to free, as `together` says
    together: Optional[Together] = None
    locked: Tuple[str, ...] = ()  # held packages that must stay as they are

    @property
    def steps(self) -> List[str]:
        steps = ["complete what dpkg was interrupted in"] if self.repair else []
        steps += ["install " + "=".join(part for part in item if part) for item in self.install]
        steps += ["remove " + name for name in self.remove]
        return steps + [("hold " if self.together and self.together.held else "free ") + name for name in self.mark]

    @property
    def changes_held(self) -> bool:
        """Whether packages of `together` may change although they are held. As long as everything installed fits they may not:
        apt must not change a driver for the sake of what comes beside it."""
        return self.together is not None and bool(self.replaced or self.remove)


def wanted(item: str) -> Wanted:
    name, _, version = item.partition("=")
    if not re.match(r"[a-z0-9][a-z0-9.+-]*[a-z0-9.+]$", name):  # apt takes NAME- for a removal
        raise ForjaError(f"{item!r} is no name of a package, with or without =VERSION")
    return Wanted(name, version)


def gather(run: Run, names: List[str], updates: List[str], marks: bool = False) -> State:
    """`updates` is the content of /var/lib/dpkg/updates: dpkg leaves numbered files there when it is cut off."""
    _, out, _ = run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev} ${Version}\n"] + names)
    installed, halves = {}, []  # type: Dict[str, str], List[str]
    for line in out.splitlines():
        name, status, version = (line.split() + ["", ""])[:3]
        # ii is installed, hi installed and held; H, U, F, W and t stand for halves of it.
        if status[1:2] == "i":
            installed[name] = version
        elif status[1:2] in ("H", "U", "F", "W", "t"):
            halves.append(name)
    interrupted = bool(halves) or any(name.isdigit() for name in updates)
    return State(installed, interrupted, tuple(halves), hold.gather(run) if marks else None)


def plan(state: State, present: List[Wanted], absent: List[str], hold_removals: bool = False,
         together: Optional[Together] = None) -> Plan:
    """Plan nothing but `held` where `hold_removals` and something would be removed."""
    def fits(item: Wanted) -> bool:
        version = state.installed.get(item.name)
        return version is not None and (not item.version or fnmatch.fnmatchcase(version, item.version))

    halves = tuple(name for name in absent if name in state.halves)
    going = [name for name in absent if name in state.installed or name in halves]
    if going and hold_removals:
        return Plan([], [], False, held=going)
    todo = Plan([item for item in present if not fits(item)], going, state.interrupted, halves,
                tuple(item.name for item in present if item.name in state.installed and not fits(item)))
    if together is None or state.marks is None:
        return todo
    # Marks of what goes go with it; what comes is held with the rest.
    after = hold.State(state.marks.installed - set(going) | {item.name for item in todo.install}, state.marks.held - set(going))
    ours = hold.matching(state.marks.held, together.patterns, together.exclude)
    return todo._replace(mark=tuple(hold.plan(after, together.patterns, together.exclude, together.held)), together=together,
                         locked=tuple(sorted(state.marks.held - ours)))


def offered(run: Run, items: List[Wanted]) -> Dict[str, str]:
    """The newest version that apt can install of each package, among those that match; packages that have none are left out."""
    if not items:
        return {}
    _, out, _ = run(["apt-cache", "madison"] + [item.name for item in items])
    patterns = {item.name: item.version or "*" for item in items}
    found: Dict[str, str] = {}
    for line in out.splitlines():
        fields = [field.strip() for field in line.split("|")]
        # madison lists the newest version first; source packages are not what we install.
        if len(fields) == 3 and not fields[2].endswith("Sources") and fnmatch.fnmatchcase(fields[1], patterns.get(fields[0], "")):
            found.setdefault(fields[0], fields[1])
    return found


def _removed(output: str) -> Set[str]:
    return set(re.findall(r"^Remv (\S+)", output, re.MULTILINE))


def transaction(run: Run, todo: Plan, versions: Dict[str, str], absent: List[str]) -> List[str]:
    """The command that carries out the plan, after a simulation of it.

    Raises where apt would also remove a package that nobody named. What came only for the removed packages goes with them.
    """
    items = [f"{item.name}={versions[item.name]}" for item in todo.install]
    options = ["--allow-downgrades"] if any(item.version for item in todo.install) else []
    if todo.changes_held:  # the first is for what depends on the named packages, the second for those
        options += ["--ignore-hold", "--allow-change-held-packages"]
    command = INSTALL + options + ["install"] + items + [name + "-" for name in todo.remove]
    rc, out, err = run(command + ["--simulate"])
    if rc != 0:
        raise ForjaError(f"apt cannot do this: {complaints(out + err)}")
    locked = sorted({name.partition(":")[0] for name in re.findall(r"^(?:Inst|Remv) (\S+)", out, re.MULTILINE)} & set(todo.locked))
    if locked:
        raise ForjaError(
            "apt would also change held packages ({}): to {}. Free them with `apt-mark unhold` if they may change, then run again. "
            "Nothing was changed.".format(", ".join(locked), ", ".join(todo.steps))
        )
    unnamed = sorted(_removed(out) - set(absent))
    if unnamed:
        raise ForjaError(
            f"apt would also remove {', '.join(unnamed)}, which nobody asked for: to {', '.join(todo.steps)}. "
            "Remove that yourself if you can do without it, then run again. Nothing was changed."
        )
    if todo.remove:
        idle = _removed(run(APT_GET + ["--simulate", "autoremove"])[1])
        orphans = _removed(run(command + ["--simulate", "--auto-remove"])[1]) - idle - _removed(out)
        command += [name + "-" for name in sorted(orphans)]
    return command


def repair(run: Run, halves: Tuple[str, ...] = (), absent: Tuple[str, ...] = ()) -> None:
    """Completes what is half installed, and removes of it what is to go: a package that cannot be configured may be why it has to.

    dpkg alone cannot where a dependency was not unpacked yet; then apt fetches it.
    """
    run(["dpkg", "--configure", "--pending"])
    command = INSTALL + ["--fix-broken", "install"] + [name + "-" for name in halves]
    rc, out, err = run(command + ["--simulate"])
    removed = sorted(_removed(out) - set(absent))
    if rc == 0 and not removed:
        rc, out, err = run(command)
    if rc != 0 or removed:
        told = f"apt would remove {', '.join(removed)}" if removed else complaints(out + err)
        raise ForjaError(f"dpkg was interrupted earlier, and this cannot be completed: {told}")


def apply(run: Run, sleep: Callable[[float], None], todo: Plan, absent: List[str]) -> None:
    """Carry the plan out, and hold or free what is there then: dependencies have come, and apt forgets the marks of what it changes."""
    change(run, sleep, todo, absent)
    if todo.together:
        marks = hold.plan(hold.gather(run), todo.together.patterns, todo.together.exclude, todo.together.held)
        hold.apply(run, marks, todo.together.held)


def change(run: Run, sleep: Callable[[float], None], todo: Plan, absent: List[str]) -> None:
    if todo.repair:
        repair(run, todo.halves, tuple(absent) if todo.halves else ())
        gone = set(todo.halves)
        todo = todo._replace(remove=[name for name in todo.remove if name not in gone])
    if not todo.install and not todo.remove:
        return
    versions = offered(run, todo.install)
    fresh = False
    for _ in range(2):
        missing = [item for item in todo.install if item.name not in versions]
        if missing and not fresh:
            refresh(run, sleep)
            versions, fresh = offered(run, todo.install), True
            missing = [item for item in todo.install if item.name not in versions]
        if missing:
            raise ForjaError(f"apt knows no {' and no '.join('='.join(filter(None, i)) for i in missing)}. Nothing was changed.")
        rc, out, err = run(transaction(run, todo, versions, absent))
        if rc == 0:
            return
        # Lists that are older than the mirror name files that are gone from it.
        if fresh or "Failed to fetch" not in out + err:
            break
        refresh(run, sleep)
        versions, fresh = offered(run, todo.install), True
    raise ForjaError(f"apt failed: {complaints(out + err)}")


def purge(run: Run, names: List[str]) -> None:
    """Remove packages and all that depends on them, held and half installed ones too, without completing anything first."""
    rc, out, err = run(INSTALL + ["--allow-change-held-packages", "remove"] + names)
    if rc != 0:
        raise ForjaError(f"apt failed: {complaints(out + err)}")


def unknown(run: Run, todo: Plan, absent: List[str]) -> Optional[str]:
    """For check mode: refuses what apt would refuse; returns a note where apt does not know a package yet."""
    versions = offered(run, todo.install)
    missing = [item.name for item in todo.install if item.name not in versions]
    if missing:
        return f"apt does not know {', '.join(missing)} yet; the run refreshes its lists first"
    if (todo.install or todo.remove) and not todo.repair:
        transaction(run, todo, versions, absent)
    return None
