# SPDX-License-Identifier: Apache-2.0
"""Rules for every file of the project. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import os
import re

import pytest

from tests.house import tree
from tests.house.tree import REPO, TESTS, files, functions


@pytest.mark.parametrize("what", ["ROLES", "MODULES", "HELPERS", "PERSONAS", "SCENARIOS", "TESTS"])
def test_there_is_something_to_hold(what: str) -> None:
    assert getattr(tree, what), f"{what} is empty, so every rule about it would pass unseen: repair the search in tests/house/tree.py."


# Cut in two, so that this file does not contain what it looks for.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "deb." + "debian.org", "security." + "debian.org", "registry." + "npmjs.org"]
# admin is the user of the lab's hosts; me, you and user stand for anybody in examples.
HOMES = re.compile(r"/(?:home|Users)/(?!(?:admin|me|you|user)/)[\w.-]+/")
# In these folders /root means the home of root on a managed host; elsewhere it is somebody's machine.
ROOT_IS_A_HOST = (
    "roles/",
    "playbooks/",
    "inventories/",
    "molecule/",
    "docs/",
    "tests/hosts/",
    "tests/faults/",
    "tests/lab/",
    "tests/data/",
)


def test_files_name_no_package_registry() -> None:
    """A site has its own index and its own mirrors: which ones is the machine's business, not the project's."""
    for path in files():
        found = [address for address in REGISTRIES if address.encode() in path.read_bytes()]
        assert not found, f"{path.relative_to(REPO)}: names {found}; use what the machine is configured with, or forja_mirror."


def test_files_name_no_place_on_a_developers_machine() -> None:
    for path in files():
        name, text = str(path.relative_to(REPO)), path.read_text(errors="replace")
        found = HOMES.findall(text) + [place for place in (f"{REPO}/",) if place in text]
        if not name.startswith(ROOT_IS_A_HOST):
            found += re.findall(r"(?<![\w.~-])/root" + r"/\S*", text)
        assert not found, f"{name}: {found} is a place on one machine; write it relative to the project or to the home folder."


@pytest.mark.parametrize(("link", "target"), [("library", "plugins/modules"), ("module_utils", "plugins/module_utils")])
def test_links_let_ansible_find_modules_in_a_checkout(link: str, target: str) -> None:
    path = REPO / link
    assert path.is_symlink(), f"{link}: must be a link to {target}; a copy of it would be a second truth."
    assert os.readlink(path) == target, f"{link}: points to {os.readlink(path)}; it must be the relative {target}."
    assert path.is_dir(), f"{link}: points to nothing."


@pytest.mark.parametrize("path", TESTS)
def test_every_test_can_fail(path: str) -> None:
    """A test must assert something itself or call a function of the same file that does."""
    known = functions(REPO / path)

    def asserts(node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
        parts = list(ast.walk(node))
        called = {part.func.id for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)} & known.keys()
        return (
            any(isinstance(part, ast.Assert) for part in parts)
            or any(isinstance(part, ast.Attribute) and part.attr in {"raises", "fail"} for part in parts)
            or any(asserts(known[name], seen | {name}) for name in called - seen)
        )

    idle = [name for name, node in known.items() if name.startswith("test_") and not asserts(node)]
    assert not idle, f"{path}: {idle} cannot fail; assert something or delete it."
