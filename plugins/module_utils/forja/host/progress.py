# SPDX-License-Identifier: Apache-2.0
"""Progress of work that takes long: a status file on the host for whoever looks, and slices of time for the controller.

A module cannot print while it runs. So it works for a slice of time, returns how far it has come, and is called again by its action
plugin, which prints a line (plugins/plugin_utils/progress.py). Nothing is left running when the controller is killed.
"""

import contextlib
import json
import os
import time
from typing import Any, Callable, Dict, NamedTuple, Optional

from . import atomic
from .errors import ForjaError

FOLDER = "/run/forja/progress"
EVERY = 1.0  # seconds between two writes of the status file
SLICE: Dict[str, Any] = {"type": "dict", "options": {
    "seconds": {"type": "float", "required": True},
    "beyond": {"type": "int", "default": 0},
}}


class Status(NamedTuple):
    """How far something has come. `total` is 0 where it is not known; `unit` is bytes or what is counted; `text` says what is done.

    `gained` is what this call has added; the rest was there before.
    """

    what: str
    done: int
    total: int
    unit: str
    text: str
    gained: int = 0


class PausedError(ForjaError):
    """The slice of time is over; the next call goes on from `status`."""

    def __init__(self, status: Status) -> None:
        ForjaError.__init__(self, f"{status.what}: interrupted at {status.done} of {status.total} {status.unit}")
        self.status = status

    @property
    def result(self) -> Dict[str, Any]:
        """What the module returns, for its action plugin."""
        return {"changed": False, "finished": False, "progress": dict(self.status._asdict())}


class Progress:
    """Call it whenever something has come further. Raises PausedError once the slice is over and it has come beyond `beyond`."""

    def __init__(self, what: str, unit: str = "bytes", part: Optional[Dict[str, Any]] = None, folder: str = "",
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.unit, self.clock = what, unit, clock
        self.end = clock() + part["seconds"] if part else None
        self.beyond = part["beyond"] if part else 0
        self.written: Optional[float] = None
        self.first: Optional[int] = None
        self.path = f"{folder or FOLDER}/{''.join(letter if letter.isalnum() or letter in '.-' else '_' for letter in what)[:100]}.json"

    def __call__(self, done: int, total: int, text: str = "", gained: Optional[int] = None, pause: bool = True) -> None:
        """`gained`: what this call has added, by default since the first report. `pause`: whether the work can be interrupted now."""
        self.first = done if self.first is None else self.first
        status = Status(self.what, done, total, self.unit, text, done - self.first if gained is None else gained)
        now = self.clock()
        if self.written is None or now - self.written >= EVERY:
            self.written = now
            self._write(status)
        if pause and self.end is not None and now >= self.end and done > self.beyond and status.gained > 0 and (done < total or not total):
            self._write(status)
            raise PausedError(status)

    def _write(self, status: Status) -> None:
        text = json.dumps(dict(status._asdict(), pid=os.getpid(), time=int(time.time())))
        with contextlib.suppress(OSError):  # no root, or no /run: the status is a courtesy
            atomic.replace(self.path, (text + "\n").encode("utf-8"))

    def finish(self) -> None:
        """Remove the status file; also after an error, which is told by the module."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
