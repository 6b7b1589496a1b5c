# SPDX-License-Identifier: Apache-2.0
"""Reading a host's files without ever failing: what is missing, forbidden, broken or binary is data."""

import errno
import os
import re
import stat
from typing import List, Optional

MAX_LINKS = 40  # the kernel's own limit
UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


class HostFiles:
    """Files below `root`, with absolute paths as the host itself would write them.

    Nothing here raises for what the host holds. Paths that exist but may not be read are kept in `denied`, paths that
    answered with an error (a device that fell off its bus answers EIO) in `broken`, for the caller to report.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)
        self.denied: List[str] = []
        self.broken: List[str] = []

    def raw(self, path: str, limit: int = 65536, offset: int = 0) -> Optional[bytes]:
        """At most `limit` bytes of a file from `offset`; None when there is nothing to read."""
        try:
            # Without O_NONBLOCK a FIFO with no writer would hold us for ever.
            handle = os.open(self._real(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            self._note(path, error)
            return None
        try:
            if offset:
                os.lseek(handle, offset, os.SEEK_SET)
            parts: List[bytes] = []
            left = limit
            while left > 0:
                part = os.read(handle, left)
                if not part:
                    break
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        except OSError as error:
            self._note(path, error)
            return None
        finally:
            os.close(handle)

    def text(self, path: str, limit: int = 65536) -> Optional[str]:
        """A file as text, lines kept; bytes that are no UTF-8 become U+FFFD, NULs become line ends."""
        raw = self.raw(path, limit)
        if raw is None:
            return None
        return UNREADABLE.sub("", raw.replace(b"\0", b"\n").decode("utf-8", "replace"))

    def word(self, path: str) -> Optional[str]:
        """The first line of a one-value file such as those of sysfs; None when it is missing or empty."""
        text = self.text(path, 4096)
        lines = text.strip().splitlines() if text else []
        return lines[0].strip() if lines else None

    def number(self, path: str) -> Optional[int]:
        """A decimal number, None for anything else."""
        word = self.word(path)
        return int(word) if word is not None and re.match(r"-?[0-9]{1,18}$", word) else None

    def names(self, path: str) -> List[str]:
        """The names in a folder, sorted; empty when there is no such folder."""
        try:
            return sorted(os.listdir(self._real(path)))
        except (OSError, ValueError) as error:
            self._note(path, error)
            return []

    def link(self, path: str) -> Optional[str]:
        """What a symbolic link says, unresolved."""
        try:
            return os.readlink(self._real(path, last=False))
        except (OSError, ValueError) as error:
            self._note(path, error)
            return None

    def link_name(self, path: str) -> Optional[str]:
        """The last part of what a symbolic link says: how sysfs names the driver of a device."""
        target = self.link(path)
        return os.path.basename(target.rstrip("/")) or None if target else None

    def exists(self, path: str) -> bool:
        """Whether something is there, links followed."""
        return self._mode(path) is not None

    def is_folder(self, path: str) -> bool:
        """Whether a folder is there, links followed."""
        mode = self._mode(path)
        return mode is not None and stat.S_ISDIR(mode)

    def resolve(self, path: str) -> str:
        """The path after following every link, still as seen from `root`."""
        try:
            real = os.path.realpath(path) if self.root == "/" else self._real(path)
        except (OSError, ValueError):
            return path
        return real if self.root == "/" else "/" + os.path.relpath(real, self.root)

    def _mode(self, path: str) -> Optional[int]:
        try:
            return os.stat(self._real(path)).st_mode
        except (OSError, ValueError) as error:
            self._note(path, error)
            return None

    def _note(self, path: str, error: Exception) -> None:
        code = getattr(error, "errno", None)
        if code in (errno.EACCES, errno.EPERM):
            self.denied.append(path)
        elif code not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ESRCH, errno.EISDIR, None):
            self.broken.append(path)

    def _real(self, path: str, last: bool = True) -> str:
        """The path on this machine. Below another root links are followed here, so that none leads out of it."""
        if self.root == "/":
            return path
        todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
        done: List[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
                continue
            here = os.path.join(self.root, *(done + [part]))
            if (todo or last) and links < MAX_LINKS and os.path.islink(here):
                links += 1
                target = os.readlink(here)
                if target.startswith("/"):
                    done = []
                todo.extend([piece for piece in target.split("/") if piece not in ("", ".")][::-1])
                continue
            done.append(part)
        return os.path.join(self.root, *done) if done else self.root
