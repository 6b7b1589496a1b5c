# SPDX-License-Identifier: Apache-2.0
"""What dpkg has at one moment, and the way back to it in one transaction."""

from fnmatch import fnmatchcase
from typing import Any, Dict, List, NamedTuple

from ..host.errors import ForjaError
from ..host.run import Run
from . import hold
from .apt_get import complaints
from .packages import INSTALL


class Snapshot(NamedTuple):
    """Packages by the names that apt takes, with their architecture where several can be installed beside each other."""

    installed: Dict[str, str]  # versions of what is wholly installed
    partial: Dict[str, str]  # versions of what dpkg was interrupted in, or could not configure
    held: List[str]


class Plan(NamedTuple):
    install: List[str]  # name=version
    remove: List[str]
    hold: List[str]
    free: List[str]

    @property
    def steps(self) -> List[str]:
        verbs = (("install ", self.install), ("remove ", self.remove), ("hold ", self.hold), ("free ", self.free))
        return [verb + name for verb, names in verbs for name in names]


def gather(run: Run) -> Snapshot:
    rc, out, err = run(["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${binary:Package} ${Version}\n"])
    if rc != 0:
        raise ForjaError(f"dpkg does not tell what is installed: {err.strip()}")
    found = Snapshot({}, {}, [])
    for line in out.splitlines():
        status, name, version = (line.split() + ["", ""])[:3]
        if status[1:2] in ("n", "c", ""):  # not installed, or only its configuration is left
            continue
        (found.installed if status[1:] == "i" else found.partial)[name] = version
        if status[0] == "h":
            found.held.append(name)
    return found


def load(data: Dict[str, Any]) -> Snapshot:
    """Read what `_asdict` made, as it comes back from a playbook."""
    try:
        return Snapshot(*[data[field] for field in Snapshot._fields])
    except (KeyError, TypeError):
        raise ForjaError("The snapshot is not one of apt_packages with state: snapshot.") from None


def plan(now: Snapshot, former: Snapshot, leftovers: List[str]) -> Plan:
    """Plan the way from `now` back to `former`.

    A package of `former` that was only partly installed is kept as it is, unless a pattern of `leftovers` fits its name: then it is
    what an interrupted run left, and goes.
    """
    kept = {name for name in former.partial if not any(fnmatchcase(name.partition(":")[0], pattern) for pattern in leftovers)}
    there = {**now.installed, **now.partial}
    install = [f"{name}={version}" for name, version in sorted(former.installed.items()) if there.get(name) != version]
    remove = sorted(set(there) - set(former.installed) - kept)
    after = set(there) - set(remove) | set(former.installed)
    return Plan(install, remove, sorted((set(former.held) - set(now.held)) & after),
                sorted((set(now.held) - set(former.held)) & after))


def apply(run: Run, todo: Plan, former: Snapshot, leftovers: List[str]) -> None:
    """Carry the plan out; raises ForjaError with what apt says where it cannot."""
    if todo.install or todo.remove:
        options = ["--allow-downgrades", "--allow-change-held-packages", "install"]
        rc, out, err = run(INSTALL + options + todo.install + [name + "-" for name in todo.remove])
        if rc != 0:
            raise ForjaError(f"apt cannot put back what was there: {complaints(out + err)}")
        todo = plan(gather(run), former, leftovers)  # for the marks: apt forgets those of what it changes
    hold.apply(run, todo.hold, True)
    hold.apply(run, todo.free, False)
