# SPDX-License-Identifier: Apache-2.0
"""A running systemd: what it knows of a unit, reload, and a restart that notices when the service does not stay up.

Speaks to systemd 229 to 257 through systemctl. `run` must be called with LC_ALL=C and TZ=UTC in its environment.
"""

import calendar
import re
import time
from typing import Callable, Dict, List, NamedTuple, Optional

from ..host.errors import ForjaError
from ..host.run import NOT_FOUND, Run

Properties = Dict[str, str]

# How long a service is watched after a restart: long enough for a program that ends at once over its settings.
WATCH_SECONDS = 1.0
_STATE = ("Id", "LoadState", "ActiveState", "SubState", "MainPID", "Type", "NeedDaemonReload", "ConditionResult", "NRestarts",
          "InactiveExitTimestamp", "InactiveExitTimestampMonotonic", "ExecMainStartTimestamp", "ExecMainStartTimestampMonotonic")
# Settings that `systemctl show` prints under another name than <key> or, for <name>Sec, <name>USec. The settings of one unit type that
# share a list share a property too.
_PROPERTIES = {"EnvironmentFile": "EnvironmentFiles", "CPUQuota": "CPUQuotaPerSecUSec", "OnCalendar": "TimersCalendar",
               "StartLimitInterval": "StartLimitIntervalUSec", "TimerSlackNSec": "TimerSlackNSec"}
_PROPERTY_PATTERNS = (("Timer", re.compile("On.*Sec$"), "TimersMonotonic"), ("Socket", re.compile("Listen"), "Listen"),
                      ("Path", re.compile("Path|DirectoryNotEmpty"), "Paths"))


class Clock(NamedTuple):
    """The time now, in seconds: of the day, since the boot without and with the time asleep."""

    real: float
    monotonic: float
    boottime: float


def clock() -> Clock:
    return Clock(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(7))  # 7: CLOCK_BOOTTIME, has a name from 3.7 on


class Manager(NamedTuple):
    """The system's systemd, or with `user` the caller's own."""

    run: Run
    user: bool = False
    sleep: Callable[[float], None] = time.sleep

    def systemctl(self, *words: str) -> str:
        argv = ["systemctl"] + (["--user"] if self.user else []) + list(words)
        rc, out, err = self.run(argv)
        if rc == NOT_FOUND:
            raise ForjaError("This host has no systemctl: it does not run systemd.")
        if rc != 0:
            raise ForjaError(f"{' '.join(argv)}: {(err or out).strip() or f'exit status {rc}'}")
        return out

    def show(self, pattern: str, properties: List[str]) -> List[Properties]:
        """What systemd knows of the units that match; for properties that a unit does not have there is no entry."""
        wanted = ["--property=" + name for name in list(_STATE) + properties]
        return parse_show(self.systemctl("show", pattern, *wanted))

    def restart(self, units: List[str]) -> None:
        """Restarts running units and watches them for a moment; ForjaError with their last journal lines if one does not stay up."""
        try:
            self.systemctl("try-restart", *units)
            deadline = WATCH_SECONDS if any(unit.endswith(".service") for unit in units) else 0
            while True:
                for unit in units:
                    problem = "; ".join(filter(None, (trouble(properties) for properties in self.show(unit, []))))
                    if problem:
                        raise ForjaError(problem)
                if deadline <= 0:
                    return
                self.sleep(0.25)
                deadline -= 0.25
        except ForjaError as error:
            raise ForjaError(f"{error}\n{self.journal(units)}".strip()) from error

    def start_again(self, units: List[str]) -> None:
        """Starts units that may have failed so often that systemd no longer tries."""
        self.systemctl("reset-failed", *units)
        self.systemctl("restart", *units)

    def journal(self, units: List[str], lines: int = 20) -> str:
        option = "--user-unit=" if self.user else "--unit="
        rc, out, _ = self.run(["journalctl", "--no-pager", f"--lines={lines}"] + [option + unit for unit in units])
        return "The journal's last lines:\n" + out.strip() if rc == 0 else ""


def parse_show(text: str) -> List[Properties]:
    """The output of `systemctl show`: units stand apart by an empty line; a property given several times is joined by newlines."""
    units: List[Properties] = []
    for block in re.split("\n\n+", text.strip("\n")):
        unit: Properties = {}
        for line in block.split("\n"):
            name, equals, value = line.partition("=")
            if equals:
                unit[name] = unit[name] + "\n" + value if name in unit else value
        if unit:
            units.append(unit)
    return units


def property_of(section: str, key: str) -> Optional[str]:
    """The property under which `systemctl show` prints a setting, None where it has none. One that does not exist is simply not printed."""
    if section == "Install" or key.startswith(("Condition", "Assert")):
        return None
    for where, pattern, name in _PROPERTY_PATTERNS:
        if where == section and pattern.match(key):
            return _PROPERTIES.get(key, name)
    return _PROPERTIES.get(key, key[:-3] + "USec" if key.endswith("Sec") else key)


def running(unit: Properties) -> bool:
    """Whether a restart has something to restart. A service between two crashes takes the new settings at its next start by itself."""
    return unit.get("ActiveState") in ("active", "reloading", "activating") and not unit.get("SubState", "").startswith("auto-restart")


def trouble(unit: Properties) -> str:
    """Why a unit that was just restarted counts as failed, empty if it does not."""
    state, name = unit.get("ActiveState", ""), unit.get("Id", "")
    if state == "failed":
        return f"{name} failed after its restart"
    if unit.get("SubState", "").startswith("auto-restart") or unit.get("NRestarts", "0") not in ("", "0"):
        return f"{name} ends right after its start and systemd restarts it again and again"
    # A oneshot has done its work, and a condition that does not hold is a wish.
    if state == "inactive" and unit.get("Type") not in (None, "", "oneshot") and unit.get("ConditionResult") != "no":
        return f"{name} was running before its restart and is not now"
    return ""


def older_than(unit: Properties, mtime: Optional[float], now: Clock) -> bool:
    """Whether a unit runs with something older than the files: they changed since systemd read them, or since the unit was started.

    systemd's realtime stamp counts whole seconds and is wrong where the clock was set after the start, as on boards without a battery
    clock. The monotonic one is exact and stands still while the host sleeps. So both must agree, except on a host that has slept.
    """
    if unit.get("NeedDaemonReload") == "yes":
        return True
    if mtime is None:
        return False
    starts = ("InactiveExitTimestamp", "ExecMainStartTimestamp")
    real = max(_seconds(unit.get(name, "")) for name in starts)
    age = now.monotonic - max(int(unit.get(name + "Monotonic") or 0) for name in starts) / 1e6
    if now.boottime - now.monotonic > 1:
        return int(mtime) > real
    return mtime > max(real, now.real - age)


def _seconds(stamp: str) -> float:
    """'Sat 2026-11-21 08:52:08 UTC' as seconds since 1970, 0 for a unit that never started."""
    match = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", stamp)
    return calendar.timegm(time.strptime(match.group(), "%Y-%m-%d %H:%M:%S")) if match else 0
