# SPDX-License-Identifier: Apache-2.0
"""The Docker engine as a service: its unit, its answers, and a restart that rolls back."""

import http.client
import json
import re
import shlex
import socket
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from ..host.run import NOT_FOUND, Run
from .config import mask, parse, render
from .flags import SOCKET, Flags, environment, expand, parse_flags

# (socket, path of the API) -> the answer; None where the engine does not answer.
Ask = Callable[[str, str], Optional[Dict[str, Any]]]

UNIT = "docker.service"
# Beside daemon.json while a restart is under way: the previous content (empty: there was no file). It tells the next run that
# this one was interrupted, that the restart is still pending, and what to roll back to.
PREVIOUS = ".forja-previous"


class Unit(NamedTuple):
    """docker.service as systemd knows it; `flags` come from its command line with the variables filled in."""

    active: bool
    flags: Flags
    note: str
    at_boot: bool = False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(self.path)


def ask(path: str, request: str) -> Optional[Dict[str, Any]]:
    """Return the engine's answer to GET `request` on its socket."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", request)
        answer = json.loads(connection.getresponse().read().decode())
        return answer if isinstance(answer, dict) else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def inspect(run: Run) -> Unit:
    """Read docker.service; a host without it, or without systemd, is a unit that is not active."""
    rc, out, _ = run(["systemctl", "show", UNIT, "--property=LoadState,ActiveState,UnitFileState,ExecStart,Environment,EnvironmentFiles"])
    if rc != 0:
        return Unit(False, {}, "this host does not run systemd, so the engine is not restarted")
    lines = [line.partition("=") for line in out.splitlines()]
    values = {name: value for name, _, value in lines}
    if values.get("LoadState") != "loaded":
        return Unit(False, {}, f"there is no {UNIT} on this host, so nothing is restarted")
    variables = environment("\n".join(shlex.split(values.get("Environment", ""))))
    for path in [value.rpartition(" (")[0] for name, _, value in lines if name == "EnvironmentFiles"]:
        variables.update(environment((atomic_file.read(path) or b"").decode(errors="replace")))
    command = re.search(r"argv\[\]=(.*?) ; ignore_errors=", values.get("ExecStart", ""))
    argv = expand(command.group(1).split(), variables) if command else []
    # A unit that systemd starts again and again, for want of a file that it can read, counts: it is to get the new one.
    active = values.get("ActiveState") in ("active", "activating", "reloading")
    note = "" if active else f"{UNIT} does not run, so it is not restarted"
    return Unit(active, parse_flags(argv), note, values.get("UnitFileState") == "enabled")


def validate(run: Run, draft: str, path: str) -> str:
    """Check the file `draft`, which is to become `path`, with dockerd; return a note where this engine cannot."""
    rc, out, err = run(["dockerd", "--validate", "--config-file", draft])
    if rc == NOT_FOUND:
        return f"dockerd is not installed, so {path} was not validated"
    if rc != 0 and "unknown flag: --validate" in out + err:
        return f"this dockerd is older than 23.0 and cannot validate {path} before it is live"
    if rc != 0:
        message = mask((out + err).replace(draft, path).strip())
        raise ForjaError(f"dockerd refuses the new {path}, so it was not written: {message}")
    return ""


class Engine:
    """The running engine. `socket` is empty where it cannot be asked; then systemd's word has to do."""

    def __init__(self, run: Run, ask: Ask, sleep: Callable[[float], None], clock: Callable[[], float], socket: str = SOCKET) -> None:
        self.run, self.ask, self.sleep, self.clock, self.socket = run, ask, sleep, clock, socket

    def get(self, request: str) -> Dict[str, Any]:
        """Return the answer to GET `request`, an empty object where the engine does not answer."""
        return (self.ask(self.socket, request) or {}) if self.socket else {}

    def version(self) -> str:
        return str(self.get("/version").get("Version", ""))

    def restart(self, timeout: int) -> str:
        """Restart, wait at most `timeout` seconds for an answer, return the engine's version."""
        end = self.clock() + timeout
        # After a few failures in a row systemd refuses to start a unit at all; this start is a new attempt.
        self.run(["systemctl", "reset-failed", UNIT])
        # docker.service has no start limit of its own: without timeout(1) an engine that hangs would hang this too.
        rc, out, err = self.run(["timeout", str(timeout), "systemctl", "restart", UNIT])
        while rc == 0:
            version = self.version()
            if version or not self.socket:
                return version
            if self.clock() >= end:
                break
            self.sleep(0.5)
        raise ForjaError((out + err).strip() if rc not in (0, 124) else f"no answer on {self.socket} within {timeout} seconds")

    def live_restore(self) -> Optional[bool]:
        """Return whether the running engine keeps containers when it stops, None where it does not answer."""
        info = self.get("/info")
        return bool(info.get("LiveRestoreEnabled")) if info else None

    def adopt_live_restore(self, wanted: bool) -> str:
        """Make the running engine adopt live-restore before it stops, which is when the containers' fate is decided.

        Switched on, they run on. Switched off, they stop with the engine, and those with a restart policy start with it; an engine
        that only finds them running when it starts stops them for good. Returns a note where it was not adopted.
        """
        if self.live_restore() in (None, wanted):  # one that does not answer has nothing to adopt
            return ""
        # A reload waits for a start that is under way, which may hang.
        self.run(["timeout", "10", "systemctl", "reload", UNIT])
        for _ in range(20):
            if self.live_restore() is wanted:
                return ""
            self.sleep(0.25)
        return "the engine did not adopt live-restore before its restart, which may have stopped containers"

    def journal(self) -> str:
        out = self.run(["journalctl", "--unit=" + UNIT, "--lines=15", "--no-pager", "--output=cat"])[1]
        return str(mask(out.strip()))


def write_and_restart(engine: Engine, path: str, content: Optional[bytes], timeout: int, live_restore: Optional[bool]) -> Tuple[str, str]:
    """Write `content` to `path` (None: no file) and restart; return the engine's version and a note.

    `live_restore` is its value in the content, None where it has none. An engine that does not come back gets its previous file
    again, and ForjaError quotes the last lines of its journal.
    """
    previous = atomic_file.read(path + PREVIOUS)
    if previous is None:
        previous = atomic_file.read(path) or b""
        atomic_file.replace(path + PREVIOUS, previous, 0o600)
    note = ""
    if live_restore is None and engine.live_restore():
        # A reload leaves a setting that the file does not name as it is, so the file names it for as long as the reload takes.
        atomic_file.replace(path, render({**parse(content, path), "live-restore": False}))
        note = engine.adopt_live_restore(False)
    if content != atomic_file.read(path):
        atomic_file.replace(path, content)
    note = note if live_restore is None else engine.adopt_live_restore(live_restore)
    try:
        version = engine.restart(timeout)
    except ForjaError as error:
        journal = engine.journal()
        atomic_file.replace(path, previous or None)
        try:
            outcome = f"The previous file is back and the engine {engine.restart(timeout)} runs with it."
        except ForjaError as again:
            outcome = f"The previous file is back, but the engine does not start with it either ({again})."
        atomic_file.replace(path + PREVIOUS, None)
        raise ForjaError(
            f"The engine did not come back with the new {path}: {error}\n{outcome}\nLast lines of its journal:\n{journal}"
        ) from error
    atomic_file.replace(path + PREVIOUS, None)
    return version, note
