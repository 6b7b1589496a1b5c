# SPDX-License-Identifier: Apache-2.0
"""What another user may do with a path, asked of the kernel as that user: mode bits, ACLs, mounts and NFS all count."""

import grp
import os
import pwd
import re
import tempfile
from typing import Any, Dict, List, NamedTuple

from .deadline import ChildError, DeadlineError, call
from .errors import ForjaError

NOBODY = 65534
SECONDS = 15.0  # a mount whose server is gone hangs


class Account(NamedTuple):
    """A user as the kernel sees it. Without one of that name it is nobody, to whom only what is open to all is open."""

    name: str
    exists: bool
    uid: int
    gid: int
    group: str  # the name of the primary group
    home: str
    groups: List[str]  # the names of the other groups


class Access(NamedTuple):
    """What a user finds on the way to a path. Paths have their links resolved."""

    path: str
    exists: bool
    kind: str  # folder, other or "" where nothing is there
    deepest: str  # the deepest folder on the way that exists
    blocked: str  # the first folder on the way that the user may not search, "" if the way is open
    writable: bool  # the path, or the deepest folder where the path does not exist


class Mount(NamedTuple):
    point: str
    kind: str  # the file system
    options: List[str]


def account(name: str) -> Account:
    """Read a user from the host's databases."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return Account(name, False, NOBODY, NOBODY, "", "", [])
    try:
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        group = str(entry.pw_gid)
    others = sorted(one.gr_name for one in grp.getgrall() if name in one.gr_mem)
    return Account(name, True, entry.pw_uid, entry.pw_gid, group, entry.pw_dir, others)


def look(path: str, user: Account) -> Access:
    """Walk to a path as a user. ForjaError where the file system does not answer."""
    real = os.path.realpath(path)
    exists, folder = os.path.exists(real), os.path.isdir(real)
    walked = _as_user(user, lambda: _walk(real, exists), real)
    return Access(real, exists, "folder" if folder else "other" if exists else "", **walked)


def try_writing(path: str, user: Account) -> str:
    """Write and remove a file in a folder as a user; return why that fails, empty if it works."""
    return str(_as_user(user, lambda: _write(path), path))


def mount_of(path: str, mountinfo: str) -> Mount:
    """Find the mount that holds an absolute path, in the text of /proc/self/mountinfo; the last one mounted there counts."""
    best = Mount("/", "", [])
    for line in mountinfo.splitlines():
        fields, dash, rest = line.partition(" - ")
        words = fields.split()
        if not dash or len(words) < 6 or not rest.split():
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), words[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best.point):
            best = Mount(point, rest.split()[0], words[5].split(",") + rest.split()[-1].split(","))
    return best


def _walk(path: str, exists: bool) -> Dict[str, Any]:
    deepest, blocked = "/", ""
    parts = [part for part in path.split("/") if part]
    for number in range(len(parts) + 1):
        current = "/" + "/".join(parts[:number])
        if not os.path.isdir(current):
            break
        deepest = current
        if not os.access(current, os.X_OK):
            blocked = current
            break
    return {"deepest": deepest, "blocked": blocked, "writable": os.access(path if exists else deepest, os.W_OK | os.X_OK)}


def _write(folder: str) -> str:
    try:
        handle, path = tempfile.mkstemp(prefix=".forja-", dir=folder)
        try:
            os.write(handle, b"x" * 4096)
        finally:
            os.close(handle)
            os.unlink(path)
    except OSError as error:
        return str(error.strerror)
    return ""


def _as_user(user: Account, function: Any, path: str) -> Any:
    def become() -> Any:
        if os.geteuid() == 0:
            if user.exists:
                os.initgroups(user.name, user.gid)
            else:
                os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
        return function()

    try:
        return call(become, SECONDS)
    except (DeadlineError, ChildError) as error:
        raise ForjaError(f"{path} cannot be used as the user {user.name}: {error}. Is the server of a network mount reachable?") from None
