# SPDX-License-Identifier: Apache-2.0
"""Rules for modules. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import importlib
from typing import Any

import yaml

from tests.compat import floors
from tests.house.tree import MODULES, REPO, Loader, each_module, flatten, functions, imports, length, load


def comparable(options: dict[str, Any] | None) -> dict[str, Any]:
    """Options in one form, whether they come from DOCUMENTATION or from an argument spec."""
    return {
        name: {
            "type": option.get("type", "str"),
            "default": option.get("default"),
            "required": bool(option.get("required", False)),
            "choices": list(option["choices"]) if option.get("choices") else None,
            "elements": option.get("elements"),
            "aliases": sorted(option.get("aliases") or []),
            "options": comparable(option.get("options") or option.get("suboptions")),
        }
        for name, option in (options or {}).items()
    }


def imported(module: str) -> Any:
    return importlib.import_module(f"plugins.modules.{module}")


@each_module
def test_module_documents_its_arguments(module: str) -> None:
    documented = yaml.safe_load(imported(module).DOCUMENTATION)
    assert documented["module"] == module, f"{module}: DOCUMENTATION is of {documented['module']!r}."
    stated, true = comparable(documented.get("options")), comparable(imported(module).argument_spec())
    assert stated == true, f"{module}: DOCUMENTATION (left) and argument_spec() (right) tell different options; make them equal."


@each_module
def test_module_documents_its_attributes(module: str) -> None:
    attributes = yaml.safe_load(imported(module).DOCUMENTATION).get("attributes", {})
    for name in ("check_mode", "diff_mode"):
        missing = {"description", "support"} - set(attributes.get(name) or {})
        assert not missing, f"{module}: DOCUMENTATION lacks {sorted(missing)} of the attribute {name}."


@each_module
def test_module_documents_what_it_returns(module: str) -> None:
    for name, value in (yaml.safe_load(imported(module).RETURN) or {}).items():
        missing = {"description", "returned", "type"} - set(value)
        assert not missing, f"{module}: RETURN lacks {sorted(missing)} of {name}."


@each_module
def test_module_shows_itself_in_its_examples(module: str) -> None:
    tasks = list(flatten(yaml.load(imported(module).EXAMPLES, Loader)))
    spec = imported(module).argument_spec()
    uses = [task[f"forja.gpu.{module}"] for task in tasks if f"forja.gpu.{module}" in task]
    assert uses, f"{module}: none of its EXAMPLES uses forja.gpu.{module}."
    unknown = {key for arguments in uses for key in arguments} - set(spec)
    assert not unknown, f"{module}: its EXAMPLES use {sorted(unknown)}, which are not options of it."


@each_module
def test_module_examples_use_full_names(module: str) -> None:
    """Copied into a play of one's own, a short name is found only beside a checkout."""
    tasks = flatten(yaml.load(imported(module).EXAMPLES, Loader))
    short = {name for task in tasks for name in task if name in MODULES}
    assert not short, f"{module}: EXAMPLES call {sorted(short)} by a short name; write forja.gpu.<module>."


@each_module
def test_module_is_short_and_supports_check_mode(module: str) -> None:
    path = REPO / f"plugins/modules/{module}.py"
    main = functions(path).get("main")
    assert main, f"{module}: has no main()."
    assert length(main) <= 60, f"{module}: main() has {length(main)} lines, at most 60; let a helper decide."
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    makes = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "AnsibleModule"]
    said = [word for call in makes for word in call.keywords if word.arg == "supports_check_mode"]
    true = [word for word in said if isinstance(word.value, ast.Constant) and word.value.value is True]
    assert len(makes) == len(true) == 1, f"{module}: give its one AnsibleModule(...) supports_check_mode=True."


@each_module
def test_module_is_tested(module: str) -> None:
    found = [*REPO.glob(f"tests/unit/*/test_{module}.py")]
    assert found, f"{module}: write tests/unit/<package>/test_{module}.py; see CONTRIBUTING.md, a module."


@each_module
def test_module_imports_its_helpers_relatively(module: str) -> None:
    """Only this form works both from `library=` and from an installed collection."""
    for line, name in imports(REPO / f"plugins/modules/{module}.py"):
        ours = "forja" in name or name.startswith((".", "module_utils", "plugins", "ansible_collections"))
        right = f"{name}.".startswith("..module_utils.forja.")
        assert not ours or right, f"plugins/modules/{module}.py:{line}: write `from ..module_utils.forja.x import y`."


def test_runtime_names_every_module() -> None:
    named = load(REPO / "meta/runtime.yml")["action_groups"]["all"]
    assert sorted(named) == MODULES, "meta/runtime.yml: action_groups.all must name each module of plugins/modules/."


def test_modules_of_the_lowest_floor_have_a_playbook_for_it() -> None:
    found, expected = {path.stem for path in REPO.glob("tests/compat/*.yml")}, set(floors.modules())
    missing, extra = sorted(expected - found), sorted(found - expected)
    assert not missing, f"tests/compat: write {missing[0]}.yml, which runs the module on Python {floors.LOWEST}."
    assert not extra, f"tests/compat: {extra} are of no module with the floor {floors.LOWEST}; delete them."


@each_module
def test_module_runs_programs_and_catches_errors_in_one_way(module: str) -> None:
    path = REPO / f"plugins/modules/{module}.py"
    tree = ast.parse(path.read_text())
    direct = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "run_command"]
    assert not direct, f"plugins/modules/{module}.py:{direct[0]}: use module_run() of host/run.py instead of module.run_command."
    fails = any(isinstance(node, ast.Attribute) and node.attr == "fail_json" for node in ast.walk(tree))
    handlers = [node for node in ast.walk(functions(path)["main"]) if isinstance(node, ast.ExceptHandler)]
    caught = {name.id for node in handlers if node.type is not None for name in ast.walk(node.type) if isinstance(name, ast.Name)}
    assert not fails or {"ForjaError", "OSError"} <= caught, f"{module}: main() must catch (ForjaError, OSError); it catches {caught}."
