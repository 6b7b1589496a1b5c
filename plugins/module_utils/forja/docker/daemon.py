# SPDX-License-Identifier: Apache-2.0
"""One daemon.json and the engine that reads it: gather, check, apply."""

import os
import re
import tempfile
from typing import Any, Callable, Dict, List, NamedTuple

from ..host import atomic as atomic_file
from ..host.run import Run
from .config import Config, parse, render
from .engine import PREVIOUS, UNIT, Ask, Engine, Unit, inspect, validate, write_and_restart
from .flags import refuse_conflicts, socket_of
from .settings import Plan, Request, in_swarm, plan, refuse_log_options, refuse_moved_data

CONTAINERD_CONFIG = "/etc/containerd/config.toml"


class State(NamedTuple):
    """The file, the unit, and the engine's answer to /info (empty where it does not run or does not answer)."""

    config: Config
    interrupted: bool
    unit: Unit
    info: Dict[str, Any]


class Daemon:
    """daemon.json at `path` as `request` wants it. `restart`: whether an engine that runs is restarted with a new file."""

    def __init__(self, run: Run, ask: Ask, sleep: Callable[[float], None], clock: Callable[[], float],
                 path: str, request: Request, restart: bool, timeout: int) -> None:
        self.run, self.path, self.request, self.restart, self.timeout = run, path, request, restart, timeout
        self.engine = Engine(run, ask, sleep, clock)
        self.notes: List[str] = []
        self.restarted = False

    def gather(self) -> State:
        config, unit = parse(atomic_file.read(self.path), self.path), inspect(self.run)
        self.engine.socket = socket_of(config, unit.flags)
        # Asking a socket that systemd listens on would start an engine that is stopped.
        info = self.engine.get("/info") if unit.active else {}
        return State(config, atomic_file.read(self.path + PREVIOUS) is not None, unit, info)

    def todo(self, state: State) -> Plan:
        return plan(state.config, self.request, state.unit.flags, self.path, in_swarm(state.info))

    def restarts(self, state: State) -> bool:
        return self.restart and (bool(self.todo(state).steps) and state.unit.active or state.interrupted)

    def steps(self, state: State) -> List[str]:
        reason = ", pending from an interrupted run" if state.interrupted else ""
        return self.todo(state).steps + ([f"restart {UNIT}{reason}"] if self.restarts(state) else [])

    def check(self, state: State, folder: str) -> None:
        """Raise where the engine would not start with the planned file; `folder` takes a draft for dockerd to read."""
        todo, flags = self.todo(state), state.unit.flags
        self.notes = list(todo.notes)
        if not todo.steps:
            return
        refuse_conflicts(todo.after, flags, self.path)
        if self.request.state == "present":
            refuse_log_options(todo.after, flags, self.path)
            refuse_moved_data(todo, self.request, flags, state.info)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".json") as draft:
            draft.write(render(todo.after))
            draft.flush()
            self.notes.append(validate(self.run, draft.name, self.path))
        read = flags["config-file"].values if "config-file" in flags else ()
        if read and os.path.realpath(read[-1]) != os.path.realpath(self.path):
            self.notes.append(f"{UNIT} reads {read[-1]}, not {self.path}")
        if self.restart and not self.restarts(state):
            self.notes.append(state.unit.note)

    def apply(self, state: State, _steps: List[str]) -> None:
        todo = self.todo(state)
        emptied = self.request.state == "absent" and not todo.after
        content = None if emptied else render(todo.after) if todo.steps else atomic_file.read(self.path)
        if not self.restarts(state):
            atomic_file.replace(self.path, content)
            return
        self.engine.socket = socket_of(todo.after, state.unit.flags)
        _, note = write_and_restart(self.engine, self.path, content, self.timeout, todo.after.get("live-restore"))
        self.notes.append(note)
        self.restarted = True


def containerd_root() -> str:
    """Return containerd's folder, where engines with the containerd image store keep images; data-root does not move it."""
    text = (atomic_file.read(CONTAINERD_CONFIG) or b"").decode(errors="replace")
    top = re.search(r"^\s*root\s*=\s*[\"']([^\"']+)[\"']", text.split("\n[", 1)[0], re.MULTILINE)
    return top.group(1) if top else "/var/lib/containerd"
