"""Run the stages of `make test` side by side: a line for each with its time, a sign of life every 20 seconds, one closing line.

    stages.py [LAB_HOST ...]    the hosts whose fault tests are played

A stage is a target of the Makefile; its output goes to .cache/log/<stage>.log. A stage starts when those that it needs have passed and
those that it follows have ended, and no more run at once than there are cores, plus one: most of them wait for hosts now and then.
A failed stage stops only those that need it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
HEARTBEAT = 20.0
LAST_LINES = 40
LONGEST = 90
TELLING = re.compile(r"TASK \[|\[ *\d+%\]|Executing$|\.py::")


class Stage(NamedTuple):
    name: str
    needs: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    report: str = ""  # the JUnit file below .cache/ that it writes, without .xml


class Counts(NamedTuple):
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def table(fault_hosts: Sequence[str]) -> list[Stage]:
    """The stages, in the order in which they start where they may."""
    faults = [Stage(f"faults-{host}", needs=("molecule",), report=f"faults-{host}") for host in fault_hosts]
    return [
        Stage("images"),
        Stage("lint"),
        Stage("unit", report="unit"),
        Stage("test-lab", needs=("images",)),
        Stage("molecule", needs=("test-lab",), report="hosts-site"),
        *faults,
        Stage("compat", follows=("unit",)),
        Stage("programs", needs=("test-lab",), follows=("molecule",), report="programs"),
        Stage("test-lab-down", needs=("molecule", "programs", *(stage.name for stage in faults))),
    ]


def count(report: Path) -> Counts | None:
    """The tests of a JUnit report; None where there is none or it cannot be read."""
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))  # our own file
    except (OSError, ElementTree.ParseError):
        return None
    tests, bad, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites for key in keys) for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    return Counts(tests - bad - skipped, bad, skipped)


def plain(line: str) -> str:
    """Return a line without colors and the frame that molecule draws."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" \u2502*.")


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Run:
    """One run of all stages below a folder that has the Makefile."""

    def __init__(self, stages: Sequence[Stage], root: Path = ROOT, heartbeat: float = HEARTBEAT) -> None:
        self.stages, self.root, self.heartbeat = stages, root, heartbeat
        self.jobs = (os.cpu_count() or 1) + 1
        self.begin = self.spoke = time.monotonic()
        self.running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self.results: dict[str, bool | None] = {}  # None: not run, because of what failed before
        self.counts: dict[str, Counts] = {}

    def say(self, text: str) -> None:
        self.spoke = time.monotonic()
        print(f"{clock(self.spoke - self.begin):>6}  {text}", flush=True)

    def log(self, name: str) -> Path:
        return self.root / f".cache/log/{name}.log"

    def last_line(self, name: str) -> str:
        """Return the last line that tells how far a stage is: a task, a test, a percentage; else the last one."""
        lines = [line for line in map(plain, self.log(name).read_text(errors="replace").splitlines()) if line]
        telling = (line for line in reversed(lines) if TELLING.search(line))
        line: str = next(telling, lines[-1] if lines else "starts")
        return line.removeprefix("tests/faults/")[:LONGEST]

    def start(self, stage: Stage) -> None:
        self.log(stage.name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / f".cache/{stage.report or stage.name}.xml").unlink(missing_ok=True)
        with self.log(stage.name).open("wb") as log:
            argv = ["make", "--no-print-directory", stage.name]
            process = subprocess.Popen(argv, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.running[stage.name] = (process, time.monotonic())

    def end(self, stage: Stage) -> None:
        process, begin = self.running.pop(stage.name)
        counts = count(self.root / f".cache/{stage.report}.xml") if stage.report else None
        if counts:
            self.counts[stage.name] = counts
        empty = bool(stage.report) and (counts is None or counts.passed + counts.failed == 0)
        passed = process.returncode == 0 and not empty and not (counts and counts.failed)
        self.results[stage.name] = passed
        words = "ran no test" if empty else str(counts or "")
        self.say(f"{stage.name:<14}{'ok' if passed else 'FAILED':<8}{clock(time.monotonic() - begin):>6}  {words}".rstrip())
        if not passed:
            for line in self.log(stage.name).read_text(errors="replace").splitlines()[-LAST_LINES:]:
                print(f"        | {line}")
            self.say(f"{stage.name:<14}whole output: {self.log(stage.name).relative_to(self.root)}")

    def advance(self) -> None:
        """Start what may start; skip what needs a stage that did not pass."""
        for stage in self.stages:
            if stage.name in self.results or stage.name in self.running:
                continue
            lost = [name for name in stage.needs if self.results.get(name, True) is not True]
            if lost:
                self.results[stage.name] = None
                self.say(f"{stage.name:<14}not run: {lost[0]} did not pass")
            elif len(self.running) < self.jobs and all(name in self.results for name in stage.needs + stage.follows):
                self.start(stage)

    def wait(self) -> None:
        while len(self.results) < len(self.stages):
            self.advance()
            ended = [stage for stage in self.stages if stage.name in self.running and self.running[stage.name][0].poll() is not None]
            for stage in ended:
                self.end(stage)
            if time.monotonic() - self.spoke >= self.heartbeat:
                self.say("... " + " | ".join(f"{name}: {self.last_line(name)}" for name in self.running))
            if not ended:
                time.sleep(0.2)

    def close(self) -> int:
        """The closing lines; the last one counts tests, and each failed stage without a failed test as one."""
        failed = [name for name, passed in self.results.items() if passed is False]
        missing = [name for name, passed in self.results.items() if passed is None]
        if failed:
            print(f"failed stages: {', '.join(failed)}" + (f"; not run: {', '.join(missing)}" if missing else ""))
        stages = sum(1 for name in failed if not (name in self.counts and self.counts[name].failed))
        passed, bad, skipped = (sum(column) for column in zip((0, stages, 0), *self.counts.values(), strict=True))
        print(Counts(passed, bad, skipped))
        return 1 if failed or missing else 0


def main(fault_hosts: Sequence[str]) -> int:
    run = Run(table(fault_hosts))
    try:
        run.wait()
    except KeyboardInterrupt:
        run.say(f"interrupted; still running: {', '.join(run.running)}")
        for process, _begin in run.running.values():
            process.terminate()
        return 130
    return run.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
