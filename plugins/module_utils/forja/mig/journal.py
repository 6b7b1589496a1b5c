# SPDX-License-Identifier: Apache-2.0
"""One run at a time, and a note of what the GPUs were before it: what a killed run leaves for the next one.

The note is written before the first change and taken away after the last, or after everything was put back. It is worth
nothing after a reboot, which no MIG instance survives.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError
from .layout.card import Compute, Instance, Placement

STATE = "/var/lib/forja/mig"
VERSION = 2
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class JournalError(ForjaError):
    """Another run is under way, or the note cannot be read or written."""


class Found(NamedTuple):
    """What a GPU is, or is to be: mode and instances."""

    enabled: bool
    pending: bool  # the mode after the next reset
    instances: Tuple[Instance, ...]  # with ids and placements of their compute instances; an id of -1 is not known yet


class Left(NamedTuple):
    """What the note has of a GPU."""

    found: Found  # before the run changed it
    heading: Tuple[Found, ...]  # what the run was making of it; more than one where further runs were killed


class Journal:
    """The folder with lock and note. Use as a context: inside, no other run of ours changes anything."""

    def __init__(self, folder: Optional[str] = None, patience: float = 60.0) -> None:
        self._folder = folder or os.environ.get("FORJA_MIG_STATE") or STATE  # the variable is for tests
        self._patience = patience
        self._note = os.path.join(self._folder, "journal.json")
        self._lock: Optional[int] = None

    def __enter__(self) -> "Journal":
        try:
            os.makedirs(self._folder, 0o755, exist_ok=True)
            # Whoever can read it could hold it.
            lock = os.open(os.path.join(self._folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{self._folder} cannot be used ({error.strerror}); changing MIG needs root.") from error
        self._wait(lock, fcntl.LOCK_EX)
        self._lock = lock
        with contextlib.suppress(OSError):  # who it is, is but a help to others; a full disk shows when the note is written
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        return self

    def __exit__(self, *_exception: Any) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _wait(self, lock: int, kind: int) -> None:
        """Until nobody else has it; it is closed when that takes too long."""
        end = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
                return
            except OSError as error:
                holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > end:
                    os.close(lock)
                    raise JournalError(
                        f"Another run (pid {holder or 'unknown'}) has been changing MIG for over {self._patience:g} s; wait for it, "
                        "or see why it hangs."
                    ) from None
                time.sleep(0.1)

    def left(self) -> Dict[str, Left]:
        """By GPU UUID what a killed run found and wanted; empty when none was killed since the last boot.

        Outside of the context it waits for a run that is under way: its note is not that of a killed one.
        """
        try:
            if self._lock is None and os.path.exists(self._note):
                lock = os.open(os.path.join(self._folder, "lock"), os.O_RDONLY | os.O_CLOEXEC)
                self._wait(lock, fcntl.LOCK_SH)
                os.close(lock)
            with open(self._note) as stream:
                note = json.load(stream)
            if note["version"] != VERSION:
                raise ValueError(f"version {note['version']!r}")
            if note["boot_id"] != boot_id():
                return {}
            return {uuid: _left(record) for uuid, record in note["gpus"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise JournalError(f"{self._note} cannot be read ({error.strerror}); run as root.") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise JournalError(
                f"{self._note}, the note of a run that was killed, cannot be understood ({error}). See `python3 -m forja.mig export` "
                "for what"
                " the GPUs are now, then remove the file."
            ) from error

    def write(self, gpus: Dict[str, Left]) -> None:
        records = {uuid: {"found": _record(one.found), "heading": [_record(state) for state in one.heading]} for uuid, one in gpus.items()}
        note = {"version": VERSION, "boot_id": boot_id(), "gpus": records}
        fresh = self._note + ".new"
        try:
            with open(fresh, "w") as stream:
                json.dump(note, stream, sort_keys=True)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(fresh, self._note)
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise JournalError(f"{self._note} cannot be written ({error.strerror}); nothing was changed.") from error

    def clear(self) -> None:
        if os.path.exists(self._note):
            os.unlink(self._note)


def boot_id() -> str:
    with open(_BOOT_ID) as stream:
        return stream.read().strip()


def _record(found: Found) -> Dict[str, Any]:
    return {
        "enabled": found.enabled,
        "pending": found.pending,
        "instances": [
            [i.id, i.profile, list(i.placement), [[c.id, c.profile, c.slices, list(c.placement or (0, 0))] for c in i.compute]]
            for i in found.instances
        ],
    }


def _left(record: Dict[str, Any]) -> Left:
    return Left(_found(record["found"]), tuple(_found(state) for state in record["heading"]))


def _found(record: Dict[str, Any]) -> Found:
    instances = []
    for number, profile, place, compute in record["instances"]:
        inside = tuple(Compute(c[0], c[1], c[2], Placement(*c[3])) for c in compute)
        instances.append(Instance(number, profile, Placement(*place), inside))
    return Found(bool(record["enabled"]), bool(record["pending"]), tuple(instances))
