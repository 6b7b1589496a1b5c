# SPDX-License-Identifier: Apache-2.0
"""Bring a unit up, or down, and wait until it answers. What keeps it from staying up is told at once, with the journal of this start."""

import re
from typing import Callable, Dict, List, NamedTuple, Optional

from ..host.errors import ForjaError
from . import endpoint as endpoints
from .endpoint import Answer, Endpoint
from .manager import Clock, Manager, Properties, older_than

_PROPERTIES = ["UnitFileState", "Result", "ExecMainCode", "ExecMainStatus", "RemainAfterExit", "ExecMainExitTimestampMonotonic"]
_UP = ("active", "reloading", "refreshing")
JOURNAL_LINES = 20
# Exit statuses that systemd itself gives before the program runs: systemd.exec(5), "Process Exit Codes".
_EXIT = {200: "its working folder cannot be entered", 203: "the program of ExecStart= is missing or cannot be executed",
         208: "standard input cannot be set up", 209: "standard output cannot be set up", 216: "its group does not exist",
         217: "its user does not exist", 226: "a folder named in the unit is missing, such as one of ReadWritePaths=",
         233: "RuntimeDirectory= cannot be made", 238: "StateDirectory= cannot be made"}


class Step(NamedTuple):
    action: str  # daemon-reload, enable, disable, start, restart, reload or stop
    text: str


class Request(NamedTuple):
    """What is asked for. `asked` is CLOCK_MONOTONIC when `restart` was asked: a start after it fulfills the request."""

    unit: str
    up: bool
    enabled: Optional[bool]
    restart: bool
    reload: bool
    asked: float = 0
    config_mtime: Optional[float] = None  # of the newest file that the service reads at its start

    def __str__(self) -> str:
        return self.unit


class State(NamedTuple):
    unit: Properties
    now: Clock
    reloaded: bool = False  # by this run


def unit_name(name: str) -> str:
    """Return the name with its suffix; a template is refused, because only its instances run."""
    full = name if re.search(r"\.[a-z]+\Z", name) else name + ".service"
    if "@." in full:
        raise ForjaError(f"{full} is a template and cannot run; name an instance such as {full.replace('@.', '@name.')}.")
    return full


def is_up(unit: Properties) -> bool:
    """Whether the unit is active. A oneshot without RemainAfterExit= counts once it has ended well since the boot."""
    if unit.get("ActiveState") in _UP:
        return True
    ended = int(unit.get("ExecMainExitTimestampMonotonic") or 0) > 0 and unit.get("ActiveState") == "inactive"
    return ended and unit.get("Type") == "oneshot" and unit.get("RemainAfterExit") == "no" and unit.get("Result") == "success"


def _loops(unit: Properties) -> bool:
    return unit.get("SubState", "").startswith("auto-restart")


def at_boot(unit: Properties) -> bool:
    return unit.get("UnitFileState") in ("enabled", "static", "alias", "generated", "indirect")


def started(unit: Properties) -> float:
    """CLOCK_MONOTONIC of the last start, in seconds; 0 for never."""
    return max(int(unit.get(name) or 0) for name in ("InactiveExitTimestampMonotonic", "ExecMainStartTimestampMonotonic")) / 1e6


def plan(state: State, request: Request) -> List[Step]:
    """Plan the steps to where the unit is up or down. A unit that systemd does not know is planned as if it came until then."""
    unit, name = state.unit, request.unit
    steps: List[Step] = []
    file_state = unit.get("UnitFileState", "")
    if request.enabled is False and file_state in ("enabled", "enabled-runtime"):
        steps.append(Step("disable", f"disable {name} at boot"))
    if not request.up:
        down = unit.get("ActiveState", "inactive") in ("inactive", "failed")
        return ([] if down else [Step("stop", f"stop {name}")]) + steps
    if unit.get("LoadState") == "masked":
        raise ForjaError(f"{name} is masked: systemd refuses to start it. If it is to run, `systemctl unmask {name}`, then run again.")
    unknown = unit.get("LoadState") != "loaded"
    if request.enabled and (unknown or file_state in ("disabled", "enabled-runtime", "linked", "linked-runtime")):
        steps.append(Step("enable", f"enable {name} at boot"))
    starting = unit.get("ActiveState") == "activating" and not _loops(unit)
    old = request.restart and started(unit) < request.asked
    if request.config_mtime is not None:
        old = old or older_than(dict(unit, NeedDaemonReload="no"), request.config_mtime, state.now)
    if unknown or not (is_up(unit) or starting):
        steps.append(Step("start", f"start {name}"))
    elif old:
        steps.append(Step("restart", f"restart {name}"))
    elif request.reload and not state.reloaded:
        steps.append(Step("reload", f"reload {name}"))
    if any(step.action != "disable" for step in steps) and (unknown or unit.get("NeedDaemonReload") == "yes"):
        steps.insert(0, Step("daemon-reload", "make systemd read its unit files again"))
    return steps


class Service:
    """One unit of a running systemd."""

    def __init__(self, manager: Manager, request: Request, endpoint: Endpoint, opener: endpoints.Opener, timeout: float, watch: float,
                 clock: Callable[[], Clock]) -> None:
        self.manager, self.request, self.endpoint, self.opener = manager, request, endpoint, opener
        self.timeout, self.watch, self.clock = timeout, watch, clock
        self.reloaded = self.started = False
        self.since: Optional[float] = None
        self.answer: Optional[Answer] = None

    def gather(self) -> State:
        units = self.manager.show(self.request.unit, _PROPERTIES)
        return State(units[0] if units else {}, self.clock(), self.reloaded)

    def refuse_stranger(self, steps: List[Step]) -> None:
        """Raise where another program answers at the endpoint of a unit that does not run; the unit could not have it."""
        if not self.endpoint or self.endpoint.path or not any(step.action == "start" for step in steps):
            return  # a Unix socket may be systemd's own, which starts the unit when asked
        answer = endpoints.ask(self.endpoint, self.opener, 2.0)
        if (answer.ok or answer.status) and not is_up(self.gather().unit):
            raise ForjaError(f"{self.request.unit} does not run, yet {self.endpoint} answers ({answer.found}): another program listens "
                             "there. `ss --listening --tcp --processes` names it. Stop it, or choose another address. Nothing was changed.")

    def apply(self, state: State, steps: List[Step]) -> None:
        """Carry out the steps, then wait until the unit answers."""
        self.refuse_stranger(steps)
        self.since = self.clock().real
        for step in steps:
            self._do(step, state)
        if self.request.up:
            self.await_up(state)

    def _do(self, step: Step, state: State) -> None:
        name, action = self.request.unit, step.action
        if action == "daemon-reload":
            self.manager.systemctl("daemon-reload")
            load = self.gather().unit.get("LoadState")
            if load == "not-found":
                raise ForjaError(f"{name} is not installed: systemd finds no unit file of this name. Install its package, then run again.")
            return
        if action in ("enable", "disable"):
            self.manager.systemctl(action, name)
            return
        verb = "restart" if action == "start" and _loops(state.unit) else action
        if action in ("start", "restart"):
            # After a few failures in a row systemd refuses to start a unit at all; this start is a new attempt.
            self.manager.run(["systemctl", "reset-failed", name])
            self.started = True
        # Without timeout(1) a unit with no limit of its own would hang this too. systemd goes on with its job.
        rc, out, err = self.manager.run(["timeout", f"{self.timeout:g}", "systemctl", verb, name])
        self.reloaded = self.reloaded or action == "reload"
        if rc != 0:
            unit = self.gather().unit
            reason = f"systemctl {verb} has not ended within {self.timeout:g} s" if rc == 124 else (err or out).strip().split("\n")[0]
            raise ForjaError(self._report(f"{name}: {action} failed", unit, reason))

    def await_up(self, before: State) -> None:
        """Wait for the answer, or at least for a unit that stays active; ForjaError as soon as it does not."""
        restarts = 0 if self.started else int(before.unit.get("NRestarts") or 0)
        begin = self.clock().monotonic
        quiet, end, pause, first, found = begin + (self.watch if self.started else 0), begin + self.timeout, 0.05, 0.0, "no answer"
        while True:
            unit = self.gather().unit
            trouble = why_down(unit, restarts)
            if is_up(unit) and "NRestarts" not in unit:  # before systemd 235
                first = first or started(unit)
                trouble = trouble or ("ends soon after its start and is restarted" if started(unit) > first else "")
            if trouble:
                raise ForjaError(self._report(f"{self.request.unit} {trouble}", unit, ""))
            now = self.clock().monotonic
            if is_up(unit) and self.endpoint:
                answer = endpoints.ask(self.endpoint, self.opener, max(0.5, min(5.0, end - now)))
                found = answer.found
                # Somebody else may answer in its place while the unit is on its way down.
                if answer.ok and not why_down(self.gather().unit, restarts):
                    self.answer = answer
                    return
            elif is_up(unit) and now >= quiet:
                return
            if now >= end:
                what = f"does not answer at {self.endpoint} within {self.timeout:g} s" if self.endpoint else "is not active"
                raise ForjaError(self._report(f"{self.request.unit} {what}", unit, found if self.endpoint else ""))
            self.manager.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _report(self, problem: str, unit: Properties, reason: str) -> str:
        expected = "active" + (f", with an answer at {self.endpoint}" if self.endpoint else "")
        lines = [f"{problem}{': ' + reason.rstrip('.') if reason else ''}. Found: {describe(unit)}. Expected: {expected}."]
        journal = self.journal()
        return "\n".join(lines + (["Last lines of its journal:", journal] if journal else []))

    def journal(self) -> str:
        """The last lines of the unit's journal since this run has touched it, without passwords in addresses."""
        self.manager.run(["journalctl", "--sync"])
        base = ["journalctl", f"--unit={self.request.unit}", f"--lines={JOURNAL_LINES}", "--no-pager", "--output=cat"]
        for since in ([] if self.since is None else [[f"--since=@{int(self.since)}"]]) + [[]]:
            rc, out, _ = self.manager.run(base + since)
            text = out.replace("-- No entries --", "").strip()
            if rc == 0 and text:
                return re.sub(r"//[^\s\"/@]*@", "//***@", text)
        return ""


def why_down(unit: Properties, restarts: int) -> str:
    """Why a unit does not stay up, empty where it does or is still on its way. `restarts`: NRestarts before."""
    state = unit.get("ActiveState", "")
    if unit.get("LoadState") not in (None, "loaded"):
        return "is not installed" if unit.get("LoadState") == "not-found" else f"cannot be loaded (LoadState {unit.get('LoadState')})"
    if state == "failed":
        return "failed"
    if _loops(unit) or int(unit.get("NRestarts") or 0) > restarts:
        return "ends soon after its start, and systemd restarts it again and again"
    if state == "inactive" and unit.get("ConditionResult") == "no":
        return f"was not started by systemd, because a condition in its unit file does not hold (`systemctl status {unit.get('Id')}`)"
    return "ended" if state == "inactive" and not is_up(unit) else ""


def describe(unit: Properties) -> str:
    """What systemd says of the unit, in one line: state, result, exit status, restarts."""
    parts = [f"{unit.get('ActiveState', 'unknown')} ({unit.get('SubState', '')})"]
    if unit.get("Result", "success") not in ("", "success"):
        parts.append(f"result {unit['Result']}")
    code, status = unit.get("ExecMainCode", "0"), int(unit.get("ExecMainStatus") or 0)
    if code == "1" and (status or not is_up(unit)):
        parts.append(f"exit status {status}" + (f" ({_EXIT[status]})" if status in _EXIT else ""))
    elif code in ("2", "3"):
        parts.append(f"killed by signal {status}")
    if unit.get("MainPID", "0") not in ("", "0"):
        parts.append(f"process {unit['MainPID']}")
    count = int(unit.get("NRestarts") or 0)
    return ", ".join(parts + ([f"restarted {count} time{'s' * (count > 1)}"] if count else []))


def summary(unit: Properties) -> Dict[str, str]:
    """The unit for a diff."""
    return {"active": unit.get("ActiveState", "unknown"), "enabled": unit.get("UnitFileState", "") or "not installed"}


