# SPDX-License-Identifier: Apache-2.0
"""Releases of a program side by side below one root, unpacked from archives; links say which one is used.

<root>/<version>/ is a whole release, always: it is unpacked beside and renamed. <root>/.partial/ holds what an interrupted run has left.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

from . import atomic, unpack
from .download import Source
from .errors import ForjaError
from .run import Run

MARK = ".forja-sha256"  # in each release: the checksum of its archive
PARTIAL = ".partial"
MODE = 0o755


class Request(NamedTuple):
    root: str
    version: Optional[str]  # None: nothing is to be there
    source: Optional[Source]
    links: Dict[str, str]  # path -> target below the release
    keep: int  # releases besides the one used
    strip: int = 0

    @property
    def release(self) -> str:
        return f"{self.root}/{self.version}"


class State(NamedTuple):
    there: bool  # whether anything is at the root
    checksums: Dict[str, Optional[str]]  # release -> checksum, newest first; None where it was installed by something else
    links: Dict[str, str]  # path -> what a link says, "" for what is no link; those that are not there are left out
    partial: bool


class Step(NamedTuple):
    action: str  # install, link, unlink, prune, clean or remove
    target: str
    text: str


def check(request: Request) -> None:
    """Refuse names that would lead out of the root."""
    version = request.version
    if version is not None and (not version or version.startswith(".") or "/" in version):
        raise ForjaError(f"version: {version!r} is not the name of a folder; use such as 1.2.3.")
    if len([part for part in request.root.split("/") if part]) < 2 or not request.root.startswith("/"):
        raise ForjaError(f"root: {request.root!r} must be an absolute path at least two folders deep; all below it belongs to this module.")
    for path, target in request.links.items():
        if not path.startswith("/") or target.startswith("/") or ".." in target.split("/"):
            raise ForjaError(f"links: {path!r}: {target!r} must be an absolute path and a path below the release.")


def gather(request: Request) -> State:
    names = os.listdir(request.root) if os.path.isdir(request.root) else []
    releases = [name for name in names if not name.startswith(".") and os.path.isdir(f"{request.root}/{name}")]
    releases.sort(key=lambda name: os.stat(f"{request.root}/{name}").st_mtime, reverse=True)
    marks = {name: atomic.read(f"{request.root}/{name}/{MARK}") for name in releases}
    links = {path: os.readlink(path) if os.path.islink(path) else "" for path in request.links if os.path.lexists(path)}
    return State(os.path.lexists(request.root), {name: mark.decode().strip() if mark else None for name, mark in marks.items()}, links,
                 PARTIAL in names)


def plan(state: State, request: Request) -> List[Step]:
    if request.version is None:
        ours = [path for path, target in state.links.items() if target.startswith(request.root + "/")]
        gone = [Step("remove", request.root, f"remove {request.root}")] if state.there else []
        return [Step("unlink", path, f"remove {path}") for path in sorted(ours)] + gone
    steps = []
    found = state.checksums.get(request.version) if request.version in state.checksums else ""
    if request.source and found is not None and found != request.source.sha256:
        steps.append(Step("install", request.version, f"install {request.source} as {request.release}"))
    for path, target in sorted(request.links.items()):
        if state.links.get(path) != f"{request.release}/{target}":
            steps.append(Step("link", path, f"link {path} to {request.release}/{target}"))
    others = [name for name in state.checksums if name != request.version]
    steps += [Step("prune", name, f"remove {request.root}/{name}") for name in others[request.keep:]]
    if state.partial and not any(step.action == "install" for step in steps):
        steps.append(Step("clean", PARTIAL, f"remove {request.root}/{PARTIAL}, left by an interrupted run"))
    return steps


def predict(state: State, steps: List[Step], request: Request) -> State:
    """Return the state after the steps."""
    gone = {step.target for step in steps if step.action == "prune"}
    releases = {name: mark for name, mark in state.checksums.items() if name not in gone}
    links = dict(state.links)
    for step in steps:
        if step.action == "install" and request.source:
            releases[step.target] = request.source.sha256
        elif step.action == "link":
            links[step.target] = f"{request.release}/{request.links[step.target]}"
        elif step.action == "unlink":
            links.pop(step.target)
        elif step.action == "remove":
            releases = {}
    return State(bool(releases), releases, links, False)


@contextlib.contextmanager
def locked(root: str) -> Iterator[str]:
    """Own the folder for unfinished work; ForjaError where another run has it."""
    folder = f"{root}/{PARTIAL}"
    os.makedirs(folder, MODE, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ForjaError(f"Another run is installing a release in {root} right now. Wait for its end, then run again.") from None
    try:
        yield folder
    finally:
        os.close(handle)


def apply(run: Run, request: Request, steps: List[Step], fetch: Callable[[Source, str], None]) -> None:
    """Carry out the steps. `fetch(source, path)` downloads, and may raise PausedError: the next call goes on."""
    for step in steps:
        if step.action == "install" and request.source:
            with locked(request.root) as folder:
                _install(run, request, request.source, folder, fetch)
                shutil.rmtree(folder)
        elif step.action == "link":
            _link(step.target, f"{request.release}/{request.links[step.target]}")
        elif step.action == "unlink":
            os.unlink(step.target)
        elif step.action in ("prune", "clean"):
            with locked(request.root) as folder:
                if step.action == "prune":  # out of sight first: what is interrupted here leaves no half of a release
                    os.rename(f"{request.root}/{step.target}", f"{folder}/{step.target}")
                shutil.rmtree(folder)
        elif step.action == "remove":
            _remove(request.root)


def _install(run: Run, request: Request, source: Source, folder: str, fetch: Callable[[Source, str], None]) -> None:
    archive = f"{folder}/{source.sha256[:16]}{unpack.suffix_of(source.url)}"
    for name in os.listdir(folder):
        if f"{folder}/{name}" != archive:  # trees that were cut off, and archives of other releases
            _remove(f"{folder}/{name}")
    fetch(source, archive)
    before = os.umask(0o022)
    try:
        tree = tempfile.mkdtemp(prefix="tree-", dir=folder)
        os.chmod(tree, MODE)
        unpack.unpack(run, archive, unpack.suffix_of(source.url), tree, request.strip)
        missing = [target for target in request.links.values() if not os.path.lexists(f"{tree}/{target}")]
        if missing:
            held = ", ".join(sorted(os.listdir(tree)))
            raise ForjaError(f"{source} does not hold {', '.join(missing)}, which `links` names. It holds {held}.")
        atomic.replace(f"{tree}/{MARK}", (source.sha256 + "\n").encode())
        os.utime(tree)
    finally:
        os.umask(before)
    os.sync()  # the rename must not reach the disk before the files
    if os.path.isdir(request.release):
        os.rename(request.release, f"{folder}/old")
    os.rename(tree, request.release)


def _link(path: str, target: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        raise ForjaError(f"{path} is a folder; expected a link, or nothing. Move it away, then run again.")
    os.makedirs(os.path.dirname(path), MODE, exist_ok=True)
    draft = f"{path}.forja-new"
    if os.path.lexists(draft):
        os.unlink(draft)
    os.symlink(target, draft)
    os.rename(draft, path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
