# SPDX-License-Identifier: Apache-2.0
"""Rules for module_utils. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import functools
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import ansible.module_utils

from tests.compat.floors import FLOORS, floor
from tests.house.tree import HELPERS, MODULES, REPO, each_helper, imports


@each_helper
def test_helper_knows_nothing_of_ansible(helper: str) -> None:
    for line, name in imports(REPO / helper):
        theirs = name.split(".")[0] in {"ansible", "ansible_collections"}
        assert not theirs, f"{helper}:{line}: imports {name}; let main() hand in what it needs, and raise an exception of your own."


def test_helpers_are_packages() -> None:
    """Without __init__.py a module finds its helper once installed but not in a checkout."""
    for folder in {(REPO / helper).parent for helper in HELPERS} - {REPO / "plugins/module_utils"}:
        assert (folder / "__init__.py").exists(), f"{folder.relative_to(REPO)}: add an empty __init__.py."


def test_helpers_shadow_nothing_of_ansible() -> None:
    """A top-level facts.py in module_utils replaces Ansible's own and breaks `setup` for the whole play."""
    theirs = {module.name for module in pkgutil.iter_modules(ansible.module_utils.__path__)}
    ours = {path.stem for path in REPO.glob("plugins/module_utils/*") if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert not ours & theirs, f"module_utils: {sorted(ours & theirs)} would replace Ansible's own; move it into module_utils/forja/."


def test_managed_side_runs_on_its_oldest_python() -> None:
    managed = [*HELPERS, *(f"plugins/modules/{module}.py" for module in MODULES)]
    for version in FLOORS:
        paths = [path for path in managed if floor(path) == version]
        vermin = [str(Path(sys.executable).with_name("vermin")), f"-t={version}-", "--no-tips", "--violations", *paths]
        result = subprocess.run(vermin, cwd=REPO, capture_output=True, text=True, check=False)
        assert paths, f"pyproject.toml, [tool.forja.python-floors]: nothing has the floor {version}."
        assert result.returncode == 0, f"These files must run on Python {version}:\n{result.stdout}{result.stderr}"


def test_no_floor_is_undermined() -> None:
    """What runs on an old Python imports nothing that needs a newer one."""
    for module in MODULES:
        path = f"plugins/modules/{module}.py"
        for line, name in imports(REPO / path):
            package = re.match(r"\.\.module_utils\.forja\.(\w+)", name)
            needed = floor(f"plugins/module_utils/forja/{package.group(1)}/") if package else floor(path)
            assert needed <= floor(path), f"{path}:{line} has the floor {floor(path)}, and {name} needs {needed}."
    for helper in HELPERS:
        place = helper.split("/")[2:-1]
        for line, name in imports(REPO / helper):
            dots = len(name) - len(name.lstrip("."))
            whole = [*place[: len(place) - dots + 1], *name.lstrip(".").split(".")] if dots else []
            needed = floor("plugins/module_utils/" + "/".join(whole[:2]) + "/") if len(whole) > 1 else floor(helper)
            assert needed <= floor(helper), f"{helper}:{line} has the floor {floor(helper)}, and {name} needs {needed}."


@functools.cache
def classes(base: str, derived: frozenset[str] = frozenset()) -> frozenset[str]:
    """`base` and the classes of the helpers that derive from it or from those in `derived`, by their names."""
    found = {base} | derived
    for helper in HELPERS:
        for node in ast.walk(ast.parse((REPO / helper).read_text())):
            if isinstance(node, ast.ClassDef) and any(isinstance(one, ast.Name) and one.id in found for one in node.bases):
                found.add(node.name)
    return derived if found == derived else classes(base, frozenset(found))


# A helper may also raise OSError, which every main() catches, and what tells of a defect of ours.
BUILTIN = {"OSError", "TimeoutError", "AssertionError", "KeyError"}
INTERNAL = {"StoppedError": "a signal: no `except Exception` on the way may swallow it"}


@each_helper
def test_helper_raises_forja_errors(helper: str) -> None:
    ours, tree = classes("ForjaError"), ast.parse((REPO / helper).read_text())
    caught = {name.id for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is not None
              for name in ast.walk(node.type) if isinstance(name, ast.Name)}  # what the file itself turns into a ForjaError
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name not in INTERNAL:
            plain = {base.id for base in node.bases if isinstance(base, ast.Name)} & {"Exception", "ValueError", "RuntimeError", "OSError"}
            assert not plain or node.name == "ForjaError", f"{helper}:{node.lineno}: derive {node.name} from ForjaError (host/errors.py)."
        raised = node.exc.func if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) else None
        if isinstance(raised, ast.Name) and raised.id[:1].isupper():
            allowed = raised.id in ours | BUILTIN | caught | set(INTERNAL)
            assert allowed, f"{helper}:{raised.lineno}: raises {raised.id}; let it be a ForjaError."


@each_helper
def test_helper_takes_the_one_run(helper: str) -> None:
    if helper.endswith("/host/run.py"):
        return
    for node in ast.walk(ast.parse((REPO / helper).read_text())):
        if isinstance(node, ast.Assign):
            named = {target.id for target in node.targets if isinstance(target, ast.Name)}
            assert "Run" not in named, f"{helper}:{node.lineno}: defines a Run of its own; import it from host/run.py."
