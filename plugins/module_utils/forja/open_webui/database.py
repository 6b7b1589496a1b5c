# SPDX-License-Identifier: Apache-2.0
"""Read, back up and restore the SQLite database of Open WebUI, which Alembic migrates.

Source: open-webui 0.12.4, backend/open_webui/models/users.py (table `user`, column `role`) and migrations/ (table `alembic_version`).
"""

import contextlib
import os
import sqlite3
from typing import Iterator, NamedTuple
from urllib.parse import quote

from ..host.errors import ForjaError

NAME = "webui.db"
# A journal or write-ahead log belongs to the file beside it; restored with another one it would corrupt it.
SIDES = ("-wal", "-shm", "-journal")


class Database(NamedTuple):
    """What the database says of itself; `head` is the revision that it was migrated to."""

    exists: bool = False
    users: int = 0
    admins: int = 0
    head: str = ""
    size: int = 0


@contextlib.contextmanager
def connect(path: str, writable: bool = False) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode={'rwc' if writable else 'ro'}", uri=True, timeout=30)
    except sqlite3.Error as error:
        raise ForjaError(f"{path} cannot be opened: {error}") from error
    try:
        yield connection
    except sqlite3.Error as error:
        raise ForjaError(f"{path}: {error}") from error
    finally:
        connection.close()


def read(path: str) -> Database:
    """Read the database; tables that a first start has not made yet count as empty."""
    if not path or not os.path.exists(path) or os.path.getsize(path) == 0:
        return Database()
    with connect(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        users = admins = 0
        if "user" in tables:
            users, admins = connection.execute("SELECT count(*), coalesce(sum(role = 'admin'), 0) FROM user").fetchone()
        heads = connection.execute("SELECT version_num FROM alembic_version").fetchall() if "alembic_version" in tables else []
        return Database(True, int(users), int(admins), ",".join(sorted(str(row[0]) for row in heads)), os.path.getsize(path))


def backup(source: str, target: str) -> None:
    """Copy a database, also one in use, into a new file that only root can read; it is checked before it gets its name."""
    draft = f"{target}.partial"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.close(handle)
    with connect(source) as one, connect(draft, writable=True) as other:
        one.backup(other)
        found = other.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise ForjaError(f"The backup of {source} is not intact ({found}); the database is left as it is.")
    os.rename(draft, target)


def restore(source: str, target: str) -> None:
    """Put a backup in the place of the database, with the owner and mode of the former one. Nothing may have it open."""
    draft = f"{target}.restored"
    with open(draft, "wb"):
        pass
    with connect(source) as one, connect(draft, writable=True) as other:
        one.backup(other)
    if os.path.exists(target):
        old = os.stat(target)
        os.chown(draft, old.st_uid, old.st_gid)
        os.chmod(draft, old.st_mode & 0o7777)
    for side in SIDES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target + side)
    os.rename(draft, target)
