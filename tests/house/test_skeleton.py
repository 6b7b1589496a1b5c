# SPDX-License-Identifier: Apache-2.0
"""What `make role` writes follows the rules of the house."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import REPO
from tests.tools import make_role

NAME = "docker_skeleton"  # its variables begin like those of another role
COPIED = ["README.md", "docs", "galaxy.yml", "meta", "playbooks", "plugins", "pyproject.toml", "requirements.yml", "roles", "tests"]
RULES = ["test_roles.py", "test_chapters.py", "test_docs.py"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a new role."""
    folder = tmp_path_factory.mktemp("project")
    for name in COPIED:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "lab"))
        else:
            shutil.copy(REPO / name, folder / name)
    result = run(folder, "tests.tools.make_role", NAME)
    assert result.returncode == 0, result.stderr
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "ANSIBLE_"))}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_skeleton_of_a_role_follows_the_rules(copy: Path) -> None:
    rules = [f"tests/house/{name}" for name in RULES]
    result = run(copy, "pytest", "-p", "no:cacheprovider", "-k", f"{NAME} or generated", *rules)
    assert result.returncode == 0, result.stdout + result.stderr
    files = {str(path.relative_to(copy)) for path in copy.rglob(f"*{NAME}*/**/*.yml")}
    assert f"roles/{NAME}/tasks/validate.yml" in files


def test_rules_of_chapters_notice_a_fault(copy: Path) -> None:
    """The same rules fail for the same role once its last task is another one."""
    path = copy / f"roles/{NAME}/tasks/report.yml"
    text = path.read_text()
    path.write_text(text + "  when: true\n")
    result = run(copy, "pytest", "-p", "no:cacheprovider", "-k", NAME, "tests/house/test_chapters.py")
    path.write_text(text)
    assert result.returncode == 1, result.stdout
    assert "must end with report" in result.stdout


@pytest.mark.parametrize(("name", "words"), [("docker", "exists already"), ("Open-WebUI", "not valid"), ("", "not valid")])
def test_names_that_no_role_can_have(name: str, words: str) -> None:
    assert words in make_role.objection(name, REPO)
