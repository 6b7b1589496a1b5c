# SPDX-License-Identifier: Apache-2.0
"""The Docker engine as a service: what its unit says, whether it answers, and a restart that can be taken back."""

import http.client
import json
import re
import shlex
import socket
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from ..host.run import Run
from .config import Config, environment, expand, mask

# (socket, path of the API) -> the answer; None where the engine does not answer.
Ask = Callable[[str, str], Optional[Dict[str, Any]]]

UNIT = "docker.service"
SOCKET = "/run/docker.sock"
# Beside daemon.json while a restart is under way: the previous content (empty: there was no file). Who finds it knows that
# the last run was cut off, that the restart is still owed, and what to go back to.
PREVIOUS = ".forja-previous"


class Unit(NamedTuple):
    """What systemd says of docker.service; `argv` is the command line with its variables filled in."""

    active: bool
    argv: List[str]
    note: str
    at_boot: bool = False  # whether systemd starts it when the host boots


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(self.path)


def ask(path: str, request: str) -> Optional[Dict[str, Any]]:
    """The engine's answer to GET `request` on its socket."""
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
    rc, out, _ = run(["systemctl", "show", UNIT, "--property=LoadState,ActiveState,UnitFileState,ExecStart,Environment,EnvironmentFiles"])
    if rc != 0:
        return Unit(False, [], "this host does not run systemd, so the engine is not restarted")
    lines = [line.partition("=") for line in out.splitlines()]
    values = {name: value for name, _, value in lines}
    if values.get("LoadState") != "loaded":
        return Unit(False, [], f"there is no {UNIT} on this host, so nothing is restarted")
    variables = environment("\n".join(shlex.split(values.get("Environment", ""))))
    for path in [value.rpartition(" (")[0] for name, _, value in lines if name == "EnvironmentFiles"]:
        variables.update(environment((atomic_file.read(path) or b"").decode(errors="replace")))
    command = re.search(r"argv\[\]=(.*?) ; ignore_errors=", values.get("ExecStart", ""))
    argv = expand(command.group(1).split(), variables) if command else []
    # A unit that systemd starts again and again, for want of a file that it can read, counts: it is to get the new one.
    active = values.get("ActiveState") in ("active", "activating", "reloading")
    note = "" if active else f"{UNIT} does not run, so it is not restarted"
    return Unit(active, argv, note, values.get("UnitFileState") == "enabled")


def validate(run: Run, draft: str, path: str) -> str:
    """Lets dockerd read the file `draft` that is to become `path`. Returns a note where this engine cannot tell."""
    rc, out, err = run(["dockerd", "--validate", "--config-file", draft])
    if rc == 127:
        return f"dockerd is not installed, so {path} was not validated"
    if rc != 0 and "unknown flag: --validate" in out + err:
        return f"this dockerd is older than 23.0 and cannot validate {path} before it is live"
    if rc != 0:
        told = mask((out + err).replace(draft, path).strip())
        raise ForjaError(f"dockerd refuses the new {path}, so it was not written: {told}")
    return ""


def socket_of(config: Config, argv: List[str]) -> str:
    """The socket to ask the engine on; empty where it listens on the network only."""
    hosts = config.get("hosts")
    words = argv + ([str(host) for host in hosts] if isinstance(hosts, list) else [])
    listens = re.findall(r"\b(unix|fd|tcp)://(\S*)", " ".join(words))
    own = [place for kind, place in listens if kind == "unix" and place]
    return own[0] if own else "" if listens and all(kind == "tcp" for kind, _ in listens) else SOCKET


class Engine:
    """The running engine. `socket` is empty where it cannot be asked; then systemd's word has to do."""

    def __init__(self, run: Run, ask: Ask, sleep: Callable[[float], None], clock: Callable[[], float], socket: str = SOCKET) -> None:
        self.run, self.ask, self.sleep, self.clock, self.socket = run, ask, sleep, clock, socket

    def version(self) -> str:
        """The version that the engine answers with, empty where it does not answer."""
        return str((self.ask(self.socket, "/version") or {}).get("Version", "")) if self.socket else ""

    def restart(self, timeout: int) -> str:
        """Restarts and waits until the engine answers, at most `timeout` seconds; returns its version."""
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
        reason = (out + err).strip() if rc not in (0, 124) else f"no answer on {self.socket} within {timeout} seconds"
        raise ForjaError(reason)

    def take_live_restore(self, wanted: bool) -> str:
        """Has the engine that still runs adopt live-restore, for what becomes of the containers is decided when it stops.

        Switched on, they run on. Switched off, they stop with the engine, and those with a restart policy start with it; an engine
        that only finds them running when it starts stops them for good. Returns a note where it was not adopted.
        """
        def adopts() -> Optional[bool]:
            info = self.ask(self.socket, "/info") if self.socket else None
            return None if info is None else bool(info.get("LiveRestoreEnabled"))

        if adopts() in (None, wanted):  # one that does not answer has nothing to adopt
            return ""
        # A reload waits for a start that is under way, which may hang.
        self.run(["timeout", "10", "systemctl", "reload", UNIT])
        for _ in range(20):
            if adopts() is wanted:
                return ""
            self.sleep(0.25)
        return "the engine did not adopt live-restore before its restart, which may have stopped containers"

    def journal(self) -> str:
        out = self.run(["journalctl", "--unit=" + UNIT, "--lines=15", "--no-pager", "--output=cat"])[1]
        return str(mask(out.strip()))


def write_and_restart(engine: Engine, path: str, content: Optional[bytes], timeout: int, live_restore: Optional[bool]) -> Tuple[str, str]:
    """Puts `content` at `path` (None: no file) and restarts; returns the engine's version and a note.

    `live_restore` is what the content says of it, None where it says nothing.
    An engine that does not come back gets its previous file again, and the failure is told with its own last words.
    """
    previous = atomic_file.read(path + PREVIOUS)
    if previous is None:
        previous = atomic_file.read(path) or b""
        atomic_file.replace(path + PREVIOUS, previous, 0o600)
    if content != atomic_file.read(path):
        atomic_file.replace(path, content)
    note = "" if live_restore is None else engine.take_live_restore(live_restore)
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
