# SPDX-License-Identifier: Apache-2.0
"""Files that are either the old ones or the new ones, never half of either."""

import os
import tempfile
from typing import Optional


def read(path: str) -> Optional[bytes]:
    """The content of a file, None where there is no such file."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def replace(path: str, content: Optional[bytes], mode: int = 0o644) -> None:
    """Puts `content` at `path` in one step, None removes the file.

    A file that exists keeps its owner and its mode: who made it private had a reason. A new one gets `mode`, and its folder is
    made where it is missing. A link is followed, so that it stays a link.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if content is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755)
    handle, draft = tempfile.mkstemp(prefix=".forja-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.path.exists(path):
                old = os.stat(path)
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
                mode = old.st_mode & 0o7777
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
