# SPDX-License-Identifier: Apache-2.0
"""A file for modprobe, and the initial file systems (initramfs) that must know it. Pure but for gather and apply."""

from typing import List, NamedTuple, Optional, Sequence

from ..host import atomic
from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Run

REBUILD = (["/usr/sbin/update-initramfs", "-u", "-k", "all"], ["/usr/bin/dracut", "--force", "--regenerate-all"])


class Place(NamedTuple):
    name: str

    @property
    def file(self) -> str:
        return f"/etc/modprobe.d/{self.name}.conf"

    @property
    def known(self) -> str:
        """A copy of what the initial file systems hold, written after them: a run that is cut off in between writes them again."""
        return f"/var/lib/forja/initramfs/{self.name}.conf"


class State(NamedTuple):
    content: Optional[str]  # None where there is no file
    known: Optional[str]
    rebuild: List[str]  # the command; empty where the host has no initial file systems


def rebuild_command(files: HostFiles) -> List[str]:
    """Return the command that rebuilds the initial file systems of all kernels; empty where the host has none."""
    return next((command for command in REBUILD if files.exists(command[0])), [])


def gather(files: HostFiles, place: Place) -> State:
    texts = [files.raw(path, 1 << 20) for path in (place.file, place.known)]
    content, known = [None if text is None else text.decode("utf-8", "replace") for text in texts]
    return State(content, known, rebuild_command(files))


def plan(state: State, place: Place, content: Optional[str], initramfs: bool = True) -> List[str]:
    """Return the steps to where modprobe, and with `initramfs` the initial file systems, know `content` (None: no file)."""
    steps = []
    if state.content != content:
        steps.append(("remove " if content is None else "write ") + place.file)
    if initramfs and state.known != content and (state.rebuild or content is None):
        steps.append("rebuild the initramfs" if state.rebuild else "remove " + place.known)
    return steps


def apply(run: Run, state: State, steps: Sequence[str], place: Place, content: Optional[str]) -> None:
    if any(step.endswith(place.file) for step in steps):
        atomic.replace(place.file, None if content is None else content.encode())
    if "rebuild the initramfs" in steps:
        rc, out, err = run(state.rebuild)
        if rc != 0:
            raise ForjaError(f"{' '.join(state.rebuild)} failed: {(err or out).strip()}")
    if any(step not in ("write " + place.file, "remove " + place.file) for step in steps):
        atomic.replace(place.known, None if content is None else content.encode())
