# SPDX-License-Identifier: Apache-2.0
"""How a role is cut into files, and what it leaves to modules. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.house.tree import PERSONAS, REPO, ROLES, argument, flatten, load, task_files, tasks_of

CHAPTERS = {"validate", "install", "configure", "service", "report", "remove"}
BESIDE_THEM = 2  # topic files that a role may have without a folder for them
# gpu_facts reports whenever it looks, also in check mode and before a platform is refused.
REPORTED_BY_MODULE = {"gpu_detect"}
BLOCKS = [role for role in ROLES if role not in PERSONAS]

# What roles still do by hand. Lower a number when it falls; never raise one: let a module predict, or ask.
MOST_CHECK_MODE_LINES = 7
HIGHEST_COMMAND_SHARE = 1.6  # percent of all tasks


def imported(task: dict[str, Any]) -> str:
    """Return the chapter that a task imports, empty if it imports none."""
    arguments = argument(task, "import_tasks")
    return str(arguments.get("file") if isinstance(arguments, dict) else arguments or "").removesuffix(".yml")


def faults(role: str) -> list[str]:
    """Name what of the role's files is not as CONTRIBUTING.md says."""
    folder = REPO / f"roles/{role}/tasks"
    found, files = [], {path.stem: load(path) or [] for path in folder.glob("*.yml")}
    topics = sorted(set(files) - CHAPTERS - {"main", "apply"})
    if len(topics) > BESIDE_THEM:
        found.append(f"tasks/ has {', '.join(topics)} beside the chapters; put topics of more than two files into folders")
    if [imported(task) for task in files.get("main", [])] != ["validate", "apply"]:
        found.append("tasks/main.yml must import validate.yml, then apply.yml, and do nothing else")
    if not (files.get("validate") and "role_arguments" in files["validate"][0]):
        found.append("tasks/validate.yml must begin with role_arguments")
    last = (files.get("apply") or [{}])[-1]
    if imported(last) == "report" and "when" not in last:  # a chapter of its own, which can be run again after a reboot
        last = (files.get("report") or [{}])[-1]
    if role not in REPORTED_BY_MODULE and ("report" not in last or "when" in last or last.get("register") != "forja_reports"):
        found.append("tasks/apply.yml, or the report.yml that it imports last, must end with report, registered as forja_reports")
    for path in folder.rglob("*.yml"):
        lines = len(path.read_text().splitlines())
        if path.stem not in CHAPTERS | {"main", "apply"} and lines < 10:
            found.append(f"{path.relative_to(folder.parent)} has {lines} lines; merge it into the file that includes it")
    return found


@pytest.mark.parametrize("role", BLOCKS)
def test_role_has_the_usual_chapters(role: str) -> None:
    assert not faults(role), f"{role}: {'; '.join(faults(role))}."


def test_roles_leave_prediction_to_modules(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [path.read_text() for path in REPO.glob("roles/**/*") if path.is_file() and path.suffix in {".yml", ".j2"}]
    count = sum("ansible_check_mode" in re.sub("#.*", "", line) for text in texts for line in text.splitlines())
    with capsys.disabled():
        print(f"\nroles: {count} lines about check mode (at most {MOST_CHECK_MODE_LINES})")
    assert count <= MOST_CHECK_MODE_LINES, f"{count} lines about check mode, at most {MOST_CHECK_MODE_LINES}; let a module predict."


def test_roles_run_few_commands(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [task for role in ROLES for task in tasks_of(role) if "block" not in task]
    commands = [task for task in tasks if argument(task, "command") is not None]
    share = round(100 * len(commands) / len(tasks), 1)
    with capsys.disabled():
        print(f"\nroles: {len(commands)} of {len(tasks)} tasks are commands, {share} % (at most {HIGHEST_COMMAND_SHARE} %)")
    assert share <= HIGHEST_COMMAND_SHARE, f"{share} % of the roles' tasks are commands; use a module, at most {HIGHEST_COMMAND_SHARE} %."


def test_there_are_tasks_to_count() -> None:
    assert all(list(flatten(load(path))) for role in BLOCKS for path in task_files(role)), "a file of tasks is empty; delete it."
