# SPDX-License-Identifier: Apache-2.0
"""Rules for the marks of tests. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.tree import REPO, ROLES, functions

HOST_TESTS = sorted(str(path.relative_to(REPO)) for path in REPO.glob("tests/hosts/**/test_*.py"))


def marks(nodes: list[ast.expr]) -> dict[str, list[object]]:
    """Name -> constant arguments of the `pytest.mark.x` in some expressions."""
    found: dict[str, list[object]] = {}
    for node in (part for tree in nodes for part in ast.walk(tree)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark":
            found.setdefault(node.attr, [])
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("pytest.mark."):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            found[ast.unparse(node.func).rpartition(".")[2]] = [part.value for part in given if isinstance(part, ast.Constant)]
    return found


def of_module(path: Path) -> dict[str, list[object]]:
    """The marks in `pytestmark`."""
    found = [
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return marks(list(found))


@pytest.mark.parametrize("path", HOST_TESTS)
def test_host_tests_say_whose_hosts_they_look_at(path: str) -> None:
    roles = of_module(REPO / path).get("role") or [None]
    expected = f'{path}: write pytestmark = pytest.mark.role("x") with a role of roles/'
    assert roles[0] in ROLES, f"{expected}; found {roles[0]!r}."
    assert Path(path).stem == f"test_{roles[0]}", f"{expected}; the file's name says which: make verify prints it."


@pytest.mark.parametrize("path", HOST_TESTS)
def test_what_only_the_lab_has_is_marked(path: str) -> None:
    """Everything else must pass on a real host."""
    everywhere = "lab" in of_module(REPO / path)
    for name, node in functions(REPO / path).items():
        text = ast.unparse(node)
        for_lab = everywhere or "lab" in marks(list(node.decorator_list))
        found = re.findall(r"""['"](lab_\w+)['"]\]""", text)
        assert for_lab or not found, f"{path}: {name} needs {found}, which only the lab has; mark it with pytest.mark.lab."
