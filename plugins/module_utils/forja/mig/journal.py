# SPDX-License-Identifier: Apache-2.0
"""One change at a time, and a journal of what the GPUs were before it: what an interrupted run leaves for the next one.

The journal is written before the first change and deleted after the last, or after the rollback. It is worth nothing after a
reboot, which no MIG instance survives.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError
from ..host.state_folder import open_state_folder
from .layout.card import Compute, Instance, Placement

STATE = "/var/lib/forja/mig"
VERSION = 3
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_LOCK, _FILE, _DRAFT = "lock", "journal.json", "journal.json.new"
_MOST_BYTES = 1 << 20


class JournalError(ForjaError):
    """Another run holds the lock, or the journal cannot be read or written."""


class GpuState(NamedTuple):
    """Mode and instances of a GPU, found or wanted."""

    enabled: bool
    pending: bool  # the mode after the next reset
    instances: Tuple[Instance, ...]  # with ids and placements of their compute instances; an id of -1 is not known yet


class JournalEntry(NamedTuple):
    """What the journal holds of one GPU."""

    found: GpuState  # before the run changed it
    targets: Tuple[GpuState, ...]  # what the run was making of it; more than one after several interrupted runs


class Journal:
    """The state folder with lock and journal. As a context it holds the lock: no other run changes anything meanwhile."""

    def __init__(self, folder: Optional[str] = None, patience: float = 60.0) -> None:
        self._path = folder or STATE
        self._patience = patience
        self._folder: Optional[int] = None
        self._lock: Optional[int] = None

    def __enter__(self) -> "Journal":
        try:
            self._open_folder()
            # Whoever can read the lock could hold it.
            lock = self._open(_LOCK, os.O_RDWR | os.O_CREAT)
            self._lock = self._wait(lock, fcntl.LOCK_EX)
        except OSError as error:
            self._close()
            raise JournalError(f"{self._path} cannot be used ({error.strerror}); changing MIG needs root.") from error
        except BaseException:
            self._close()
            raise
        with contextlib.suppress(OSError):  # the pid only helps others; a full disk shows when the journal is written
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._close()

    @contextlib.contextmanager
    def reading(self) -> Iterator["Journal"]:
        """Share the lock: wait for a change that is under way, and let none begin meanwhile.

        Without a state folder there has been no run. Who may not read the lock reads without it.
        """
        try:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self._open_folder(create=False)
                self._lock = self._wait(self._open(_LOCK, os.O_RDONLY), fcntl.LOCK_SH)
            yield self
        finally:
            self._close()

    def _open_folder(self, create: bool = True) -> None:
        try:
            self._folder = open_state_folder(self._path, create)
        except ForjaError as error:
            raise JournalError(str(error)) from error

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self._folder)

    def _close(self) -> None:
        for handle in (self._lock, self._folder):
            if handle is not None:
                os.close(handle)
        self._lock = self._folder = None

    def _wait(self, lock: int, kind: int) -> int:
        """Lock the file and return its descriptor; closed when that takes too long."""
        end = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                return lock
            except OSError as error:
                holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > end:
                    os.close(lock)
                    raise JournalError(
                        f"Another run (pid {holder or 'unknown'}) has been changing MIG for over {self._patience:g} s. Wait until it "
                        "ends, or look why it hangs."
                    ) from None
                time.sleep(0.1)

    def entries(self) -> Dict[str, JournalEntry]:
        """Read what an interrupted run found and wanted, by GPU UUID; empty when none was interrupted since the last boot."""
        path = os.path.join(self._path, _FILE)
        try:
            if self._folder is None:
                return {}
            with os.fdopen(self._open(_FILE, os.O_RDONLY), "rb") as stream:
                text = stream.read(_MOST_BYTES + 1)
            if self._lock is None:
                raise JournalError(f"{path} may be that of a run under way, whose lock only root can read; run as root.")
            return _parse(text)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise JournalError(f"{path} cannot be read ({error.strerror}); run as root.") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise JournalError(
                f"{path}, the journal of an interrupted run, is not valid ({error}). See with `python3 -m forja.mig export` what the "
                "GPUs are now, then remove the file."
            ) from error

    def write(self, entries: Dict[str, JournalEntry]) -> None:
        """Put the journal on the disk, whole or not at all. The lock must be held."""
        records = {uuid: {"found": _record(entry.found), "targets": [_record(state) for state in entry.targets]}
                   for uuid, entry in entries.items()}
        text = json.dumps({"version": VERSION, "boot_id": boot_id(), "gpus": records}, sort_keys=True)
        assert self._folder is not None
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_DRAFT, dir_fd=self._folder)
            with os.fdopen(self._open(_DRAFT, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(_DRAFT, _FILE, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError as error:
            raise JournalError(f"{os.path.join(self._path, _FILE)} cannot be written ({error.strerror}); nothing was changed.") from error

    def clear(self) -> None:
        """Delete the journal. The lock must be held."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_FILE, dir_fd=self._folder)


def boot_id() -> str:
    with open(_BOOT_ID) as stream:
        return stream.read().strip()


def _parse(text: bytes) -> Dict[str, JournalEntry]:
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    data = json.loads(text.decode("utf-8"))
    if data["version"] != VERSION:
        raise ValueError(f"version {data['version']!r}")
    if data["boot_id"] != boot_id():
        return {}
    return {uuid: JournalEntry(_state(record["found"]), tuple(map(_state, record["targets"]))) for uuid, record in data["gpus"].items()}


def _record(state: GpuState) -> Dict[str, Any]:
    return {
        "enabled": state.enabled,
        "pending": state.pending,
        "instances": [
            [i.id, i.profile, list(i.placement), [[c.id, c.profile, c.slices, list(c.placement or (0, 0))] for c in i.compute]]
            for i in state.instances
        ],
    }


def _state(record: Dict[str, Any]) -> GpuState:
    instances = []
    for number, profile, place, compute in record["instances"]:
        inside = tuple(Compute(_number(c[0]), _number(c[1]), _number(c[2]), _placement(c[3])) for c in compute)
        instances.append(Instance(_number(number), _number(profile), _placement(place), inside))
    return GpuState(bool(record["enabled"]), bool(record["pending"]), tuple(instances))


def _placement(data: Any) -> Placement:
    start, size = data
    return Placement(_number(start), _number(size))


def _number(data: Any) -> int:
    if isinstance(data, bool) or not isinstance(data, int):
        raise TypeError(f"{str(data)[:20]!r} where a number is expected")
    return data
