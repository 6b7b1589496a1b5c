# SPDX-License-Identifier: Apache-2.0
"""What the rules of the house look at: lists of roles, modules, helpers and tests, and readers for them.

Everything is found by itself: whoever adds a role or a module has nothing to register here.
"""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in REPO.glob("roles/*") if path.is_dir())
MODULES = sorted(path.stem for path in REPO.glob("plugins/modules/*.py"))
HELPERS = sorted(str(path.relative_to(REPO)) for path in REPO.glob("plugins/module_utils/**/*.py"))
PERSONAS = sorted(path.stem for path in REPO.glob("playbooks/*.yml"))
SCENARIOS = sorted(path.parent.name for path in REPO.glob("molecule/*/molecule.yml") if path.parent.name not in {"default", "site"})
TESTS = sorted(str(path.relative_to(REPO)) for path in REPO.glob("tests/**/test_*.py"))
LOCKS = sorted(str(path.relative_to(REPO)) for path in (REPO / "requirements.lock", *REPO.glob("tests/**/requirements.lock")))
# The only variables that belong to no role: design of the whole project, not of one part.
PROJECT_WIDE = {"forja_mirror", "forja_registry", "forja_reboot", "forja_progress"}
# What every role's last task registers: the reports of all roles so far.
REPORTS = "forja_reports"
# What gpu_detect registers in the run in which it looked; a fact cache may be older.
LOOKED = "forja_gpu"

each_role = pytest.mark.parametrize("role", ROLES)
each_module = pytest.mark.parametrize("module", MODULES)
each_helper = pytest.mark.parametrize("helper", HELPERS)
each_persona = pytest.mark.parametrize("persona", PERSONAS)
each_lock = pytest.mark.parametrize("lock", LOCKS)


class Loader(yaml.SafeLoader):
    """Reads Ansible's YAML: !unsafe and !vault are ordinary scalars here."""


Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    """The YAML of a file, None where there is no such file."""
    return yaml.load(path.read_text(), Loader) if path.exists() else None


def flatten(tasks: Any) -> Iterator[dict[str, Any]]:
    """The tasks of a task list, blocks first and then what stands in them."""
    for task in tasks or []:
        yield task
        for key in ("block", "rescue", "always"):
            yield from flatten(task.get(key))


def task_files(role: str) -> list[Path]:
    return sorted([*REPO.glob(f"roles/{role}/tasks/**/*.yml"), *REPO.glob(f"roles/{role}/handlers/**/*.yml")])


def tasks_of(role: str) -> list[dict[str, Any]]:
    return [task for path in task_files(role) for task in flatten(load(path))]


def argument(task: dict[str, Any], action: str) -> Any:
    """The argument of a task's action, given by any of its names; None where the task does something else."""
    return next((task[name] for name in (action, f"ansible.builtin.{action}", f"ansible.legacy.{action}") if name in task), None)


def roles_included(task: dict[str, Any]) -> set[str]:
    return {arguments["name"] for action in ("include_role", "import_role") if isinstance(arguments := argument(task, action), dict)}


def spec_of(role: str) -> dict[str, Any]:
    spec = load(REPO / f"roles/{role}/meta/argument_specs.yml") or {}
    options: dict[str, Any] = spec.get("argument_specs", {}).get("main", {}).get("options") or {}
    return options


def defaults_of(role: str) -> dict[str, Any]:
    return load(REPO / f"roles/{role}/defaults/main.yml") or {}


def public(role: str) -> set[str]:
    return set(spec_of(role)) | set(defaults_of(role))


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every import, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def files() -> list[Path]:
    """The files that git tracks or would add."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=REPO, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout, so there is no list of tracked files")
    paths = [REPO / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]
