# SPDX-License-Identifier: Apache-2.0
"""Open a folder of root's own state, so that no other user can redirect what is written there."""

import os
import stat

from .errors import ForjaError

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o755


def open_state_folder(path: str, create: bool = True) -> int:
    """Return a descriptor of the folder; with `create`, missing folders are made with mode 0755, whatever the umask is.

    Each folder on the way must belong to root or to the caller, and only sticky ones, such as /tmp, may be writable by others;
    the last one must not be a symbolic link. Raises ForjaError where this does not hold, OSError where a folder cannot be opened.
    """
    parent, name = os.path.split(os.path.abspath(path))
    names = [part for part in os.path.realpath(parent).split("/") if part] + [name]
    folder = os.open("/", _FLAGS)
    try:
        for depth, part in enumerate(names, 1):
            inner = _enter(folder, part, create)
            os.close(folder)
            folder = inner
            _check(folder, "/" + "/".join(names[:depth]), depth == len(names))
    except BaseException:
        os.close(folder)
        raise
    return folder


def _enter(folder: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, _MODE, dir_fd=folder)
    except FileExistsError:  # another run was faster
        return os.open(name, _FLAGS, dir_fd=folder)
    made = os.open(name, _FLAGS, dir_fd=folder)
    os.fchmod(made, _MODE)
    return made


def _check(folder: int, path: str, last: bool) -> None:
    found = os.fstat(folder)
    if found.st_uid not in (0, os.geteuid()):
        raise ForjaError(f"{path} belongs to user {found.st_uid}, who could replace what is kept in it; it must belong to root.")
    shared = found.st_mode & 0o022 and (last or not found.st_mode & stat.S_ISVTX)
    if shared:
        raise ForjaError(f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: other users can write in it. Run chmod go-w {path}.")
