# SPDX-License-Identifier: Apache-2.0
"""The module open_webui_up: waits as long as something moves, and checks what a green health check does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.open_webui.container import Container, Docker
from plugins.module_utils.forja.open_webui.database import Database
from plugins.module_utils.forja.open_webui.ready import HEADS, Waiter, answers, check_database, log_lines, why_down

START = 1_790_000_000.0


def stamp(seconds: float) -> str:
    import datetime  # here, because only this helper needs it

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")


class Engine:
    """An engine with one container whose log gets a line every `every` seconds, and which answers at `ready`."""

    def __init__(self, every: float, ready: float, dies: float = 1e12) -> None:
        self.now, self.every, self.ready, self.dies = START, every, ready, dies

    def __call__(self, argv: list[str]) -> Result:
        if argv[1] == "container":
            up = self.now - START < self.dies
            state = {"Running": up, "Status": "running" if up else "exited", "ExitCode": 0 if up else 1}
            return Result(0, json.dumps([{"State": state, "NetworkSettings": {"Networks": {"b": {"IPAddress": "172.17.0.2"}}}}]), "")
        if argv[1] == "logs":
            last = START + (self.now - START) // self.every * self.every
            return Result(0, "", f"{stamp(last)} migrating\n{stamp(self.now)} GET /ready 503\n")
        raise AssertionError(argv)

    def sleep(self, seconds: float) -> None:
        self.now += 30

    def ask(self, url: str) -> int:
        return 200 if self.now - START >= self.ready else 0


def wait(engine: Engine, folder: Path, quiet: float = 600) -> None:
    Waiter(Docker(engine), "web", str(folder), quiet, engine.ask, lambda *_: None, lambda: engine.now, engine.sleep).wait(START)


def test_half_an_hour_of_migrations_is_waited_for(tmp_path: Path) -> None:
    engine = Engine(every=300, ready=1800)
    wait(engine, tmp_path)
    assert engine.now - START >= 1800


def test_a_start_that_stands_still_is_told(tmp_path: Path) -> None:
    """The lines that the questions leave in the log are no progress."""
    with pytest.raises(ForjaError, match=r"moved for 600 s.*runs on"):
        wait(Engine(every=1e9, ready=1e9), tmp_path)


def test_a_container_that_ends_is_told_at_once(tmp_path: Path) -> None:
    engine = Engine(every=1, ready=1e9, dies=60)
    with pytest.raises(ForjaError, match=r"does not stay up \(exited, exit code 1\)"):
        wait(engine, tmp_path)
    assert engine.now - START < 120


@pytest.mark.parametrize(("before", "now", "expected"), [
    (Container(), Container(True, True, "running"), ""),
    (Container(True, True, "running"), Container(), "is gone"),
    (Container(True, True, "running"), Container(True, True, "running", restarts=1), "does not stay up (running, restarted 1 times)"),
    (Container(True, True, "running", restarts=3), Container(True, True, "running", restarts=3), ""),
])
def test_restarts_count_from_the_beginning_of_the_wait(before: Container, now: Container, expected: str) -> None:
    assert why_down(before, now) == expected


@pytest.mark.parametrize(("pages", "ready"), [
    ({"/ready": 200}, True), ({"/ready": 503, "/health": 200}, False), ({"/ready": 404, "/health": 200}, True), ({}, False),
])
def test_older_versions_have_health_only(pages: dict[str, int], ready: bool) -> None:
    ask: Callable[[str], int] = lambda url: pages.get(url.removeprefix("http://172.17.0.2:8080"), 0)  # noqa: E731
    assert answers(ask, "172.17.0.2") is ready


def test_green_health_does_not_hide_a_failed_migration() -> None:
    with pytest.raises(ForjaError, match="at the migration aaa, and this version of Open WebUI needs bbb"):
        check_database(Database(True, 1, 1, "aaa"), "bbb")
    check_database(Database(True, 1, 1, "bbb"), "bbb")


def test_database_without_an_administrator_is_refused() -> None:
    with pytest.raises(ForjaError, match="first visitor"):
        check_database(Database(True, 0, 0, "bbb"), "bbb")


def test_log_is_sorted_by_time_and_leaves_empty_lines_out() -> None:
    text = f"{stamp(START + 5)} second\n{stamp(START)} first\n{stamp(START + 9)} \nwithout a time\n"
    assert [line.text for line in log_lines(text)] == ["first", "second"]


def test_heads_are_read_as_alembic_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "open_webui/migrations/versions"
    folder.mkdir(parents=True)
    (tmp_path / "open_webui/__init__.py").write_text("raise RuntimeError('it is not imported')\n")
    (folder / "1.py").write_text('revision: str = "aaa"\ndown_revision = None\n')
    (folder / "2.py").write_text('revision = "bbb"\ndown_revision: str | None = "aaa"\n')
    (folder / "3.py").write_text('revision, down_revision = "ccc", "aaa"\n')
    (folder / "4.py").write_text('revision = "ddd"\ndown_revision = ("bbb", "ccc")\n')
    found = subprocess.run([sys.executable, "-c", HEADS], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "ddd"
