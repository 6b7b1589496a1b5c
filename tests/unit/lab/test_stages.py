# SPDX-License-Identifier: Apache-2.0
"""The runner of `make test`: which stages run after a failed one, its exit code, its closing line, and that it is never silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import stages
from tests.stages import Run, Stage

REPORT = """printf '<testsuites><testsuite tests="%s" failures="%s" errors="0" skipped="%s"/></testsuites>' {} > .cache/{}.xml"""


def play(folder: Path, recipes: dict[str, str], *table: Stage, heartbeat: float = 20) -> int:
    """Run stages whose targets have these recipes."""
    (folder / "Makefile").write_text("".join(f"{name}:\n\t@{recipe}\n" for name, recipe in recipes.items()))
    run = Run(table, folder, heartbeat)
    run.wait()
    return run.close()


def test_all_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = {"lint": "true", "unit": REPORT.format("5 0 1", "unit"), "hosts": REPORT.format("3 0 0", "hosts-site")}
    assert play(tmp_path, recipes, Stage("lint"), Stage("unit", report="unit"), Stage("hosts", report="hosts-site")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "7 passed, 0 failed, 1 skipped"


def test_a_failed_stage_stops_only_those_that_need_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = {"images": "echo no registry; exit 3", "lab": "touch lab", "unit": REPORT.format("5 0 1", "unit"), "compat": "touch compat"}
    table = Stage("images"), Stage("lab", needs=("images",)), Stage("unit", report="unit"), Stage("compat", follows=("images", "unit"))
    assert play(tmp_path, recipes, *table) == 1
    output = capsys.readouterr().out
    assert "| no registry" in output
    assert "lab           not run: images did not pass" in output
    assert "failed stages: images; not run: lab" in output
    assert output.splitlines()[-1] == "4 passed, 1 failed, 1 skipped"
    assert (tmp_path / "compat").exists()
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("recipe", ["true", REPORT.format("4 0 4", "unit"), "echo '<half' > .cache/unit.xml"])
def test_a_stage_that_ran_no_test_failed(tmp_path: Path, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(tmp_path, {"unit": recipe}, Stage("unit", report="unit")) == 1
    assert "unit          FAILED" in capsys.readouterr().out


def test_a_report_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    stage = Stage("unit", report="unit")
    assert play(tmp_path, {"unit": REPORT.format("4 0 0", "unit")}, stage) == 0
    assert play(tmp_path, {"unit": "true"}, stage) == 1


def test_failed_tests_are_counted_even_if_the_exit_code_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(tmp_path, {"unit": REPORT.format("4 2 0", "unit")}, Stage("unit", report="unit")) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 2 failed, 0 skipped"


def test_a_long_stage_shows_its_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    until = "echo 'TASK [Start the hosts] ****'; for i in $$(seq 100); do [ ! -e seen ] || break; sleep 0.1; done"
    (tmp_path / "Makefile").write_text(f"lab:\n\t@{until}\n")
    run = Run([Stage("lab")], tmp_path, heartbeat=0.1)
    spoken: list[str] = []

    def say(text: str) -> None:
        spoken.append(text)
        if "TASK" in text:
            (tmp_path / "seen").touch()
        Run.say(run, text)

    run.say = say  # type: ignore[method-assign]
    run.wait()
    assert "... lab: TASK [Start the hosts]" in spoken


@pytest.mark.parametrize(("output", "shown"), [
    ("TASK [Start the hosts] ****\nok: [localhost]\n", "TASK [Start the hosts]"),
    ("  \x1b[2m\u2502\x1b[0m TASK [Trust it] ***\n  \x1b[2m\u2502\x1b[0m \x1b[32mok: [ws12]\x1b[0m\n", "TASK [Trust it]"),
    ("......  [ 34%]\n....", "[ 34%]"),
    ("tests/faults/test_x.py::test_y PASSED [ 10%]\ntests/faults/test_x.py::test_z ", "test_x.py::test_z"),
    ("Collecting x\n\n", "Collecting x"),
    ("", "starts"),
])  # fmt: skip
def test_what_a_heartbeat_shows(tmp_path: Path, output: str, shown: str) -> None:
    run = Run([], tmp_path)
    run.log("lab").parent.mkdir(parents=True)
    run.log("lab").write_text(output)
    assert run.last_line("lab") == shown


def test_fault_stages_need_provisioned_hosts_and_the_lab_stays_after_a_failure() -> None:
    table = {stage.name: stage for stage in stages.table(["ws12", "mig"])}
    assert table["faults-ws12"].needs == ("molecule",)
    assert {"faults-ws12", "faults-mig", "programs", "molecule"} <= set(table["test-lab-down"].needs)
    assert table["images"].needs + table["images"].follows == ()
