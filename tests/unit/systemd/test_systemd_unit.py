# SPDX-License-Identifier: Apache-2.0
"""The module systemd_unit: write, verify, remove, and the way back to the files that worked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plugins.module_utils.forja.host.converge import converge
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.systemd import snapshot
from plugins.module_utils.forja.systemd.manager import Clock, Manager
from plugins.module_utils.forja.systemd.paths import Place, place
from plugins.module_utils.forja.systemd.unit_apply import Unit, apply, diff, gather, keep, pending, plan

NAME = "demo.service"
OLD, NEW = "[Service]\nExecStart=/bin/old\n", "[Service]\nExecStart=/bin/new\n"
START = 1_000_000.0  # seconds since 1970 at which the unit was started; the host has been up since 0


class FakeSystemd:
    """One unit. It runs what was on disk when it was started last; one that says `broken` does not run."""

    def __init__(self, system: Place) -> None:
        self.system, self.active, self.calls = system, True, [""]
        self.refuse = ""

    def __call__(self, argv: list[str]) -> Result:
        self.calls.append(" ".join(argv))
        if "verify" in argv:
            return Result(1, "", self.refuse.replace("PATH", argv[-1]))
        if "show" in argv:
            stamp = "Mon 1970-01-12 13:46:40 UTC"
            return Result(0, f"Id={NAME}\nActiveState={'active' if self.active else 'failed'}\nNeedDaemonReload=no\n"
                          f"InactiveExitTimestamp={stamp}\nInactiveExitTimestampMonotonic={int(START * 1e6)}\n", "")
        if argv[1] == "restart":
            text = Path(f"{self.system.config}/{NAME}").read_text()
            self.active = "broken" not in text
            return Result(0 if self.active else 1, "", "" if self.active else "Job failed")
        return Result(0, "", "")


@pytest.fixture
def system(tmp_path: Path) -> Place:
    for folder in ("etc/systemd/system/demo.service.d", "run/systemd/system", "run/forja"):
        (tmp_path / folder).mkdir(parents=True)
    return place("system", str(tmp_path), 0, 0, "/root")


@pytest.fixture
def systemd(system: Place) -> FakeSystemd:
    return FakeSystemd(system)


def unit(systemd: FakeSystemd, content: str | None, wanted: str = "present", also: list[str] | None = None) -> Unit:
    manager = Manager(systemd, False, lambda _seconds: None)
    return Unit(systemd.system, manager, systemd, NAME, content, also or [], wanted, "systemd-analyze")


def write(path: Path, text: str, age: float = 100) -> None:
    """Write a file so long before (after, below zero) the start of the unit."""
    path.write_text(text)
    os.utime(path, (START - age, START - age))


def bring(one: Unit, check: bool = False) -> list[str]:
    if not check:
        keep(one, Clock(START + 50, START + 50, START + 50))
    return converge(lambda: gather(one), lambda state: plan(one, state), lambda state, steps: apply(one, state, steps), check).steps


def test_unit_is_written_once(systemd: FakeSystemd) -> None:
    path = Path(unit(systemd, NEW).path)
    assert bring(unit(systemd, NEW), check=True) == [f"write {path}"]
    assert not path.exists()
    assert bring(unit(systemd, NEW)) == [f"write {path}"]
    assert path.read_text() == NEW
    assert "systemctl daemon-reload" in systemd.calls
    assert bring(unit(systemd, NEW)) == []
    assert bring(unit(systemd, None, "absent")) == [f"remove {path}"]
    assert not path.exists()


def test_line_that_systemd_refuses_leaves_the_old_unit(systemd: FakeSystemd) -> None:
    path = Path(unit(systemd, NEW).path)
    write(path, OLD)
    systemd.refuse = "PATH:2: Unknown key name 'ExecStrat' in section 'Service', ignoring.\nCommand /bin/new is not executable"
    with pytest.raises(ForjaError, match="ExecStrat") as error:
        bring(unit(systemd, NEW))
    assert str(path) in str(error.value)
    assert path.read_text() == OLD


def test_program_that_is_not_there_yet_is_no_fault_of_the_unit(systemd: FakeSystemd) -> None:
    systemd.refuse = "demo.service: Command /bin/new is not executable: No such file or directory"
    assert bring(unit(systemd, NEW))


def test_way_back_restores_every_file_and_starts_the_unit(systemd: FakeSystemd, tmp_path: Path) -> None:
    path, extra = Path(unit(systemd, NEW).path), tmp_path / "rules"
    drop_in, later = Path(f"{path}.d/a.conf"), Path(f"{path}.d/b.conf")
    write(path, OLD)
    write(drop_in, "[Service]\nNice=1\n")
    write(extra, "old rules")
    bring(unit(systemd, "broken", also=[str(extra)]))
    drop_in.write_text("[Service]\nNice=2\n")
    later.write_text("[Service]\nNice=3\n")
    extra.write_text("new rules")
    systemd.active = False
    steps = bring(unit(systemd, None, "restored", [str(extra)]))
    assert steps == [f"restore {path}", f"restore {drop_in}", f"restore {later}", f"restore {extra}", f"start {NAME}"]
    assert (path.read_text(), drop_in.read_text(), extra.read_text(), later.exists()) == (OLD, "[Service]\nNice=1\n", "old rules", False)
    assert systemd.active
    assert bring(unit(systemd, None, "restored", [str(extra)])) == []


def test_interrupted_run_does_not_replace_the_files_that_worked(systemd: FakeSystemd) -> None:
    path = Path(unit(systemd, NEW).path)
    write(path, OLD)
    bring(unit(systemd, NEW))
    write(path, NEW, age=-10)  # the run was killed before the restart: the unit still runs with the old file
    bring(unit(systemd, "broken"))
    assert (snapshot.taken(systemd.system, NAME) or {})[str(path)] == OLD


def test_without_files_that_worked_there_is_no_way_back(systemd: FakeSystemd) -> None:
    systemd.active = False
    bring(unit(systemd, NEW))
    assert bring(unit(systemd, None, "restored")) == []
    assert Path(unit(systemd, NEW).path).read_text() == NEW


@pytest.mark.parametrize(("age", "result"), [(100, False), (-10, True)])
def test_restart_is_pending_while_a_file_is_newer_than_the_start(systemd: FakeSystemd, age: float, result: bool) -> None:
    write(Path(unit(systemd, NEW).path), NEW)
    write(Path(f"{unit(systemd, NEW).path}.d/a.conf"), "[Service]\nNice=1\n", age)
    assert pending(unit(systemd, NEW), Clock(START + 50, START + 50, START + 50)) is result


def test_diff_shows_the_unit(systemd: FakeSystemd) -> None:
    write(Path(unit(systemd, NEW).path), OLD)
    one = unit(systemd, NEW)
    assert (diff(one, gather(one))["before"], diff(one, gather(one))["after"]) == (OLD, NEW)
