# SPDX-License-Identifier: Apache-2.0
"""One name, five places: rules for personas. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import PERSONAS, REPO, ROLES, SCENARIOS, argument, each_persona, flatten, load, roles_included, task_files


def plays_role(play: dict[str, Any], role: str) -> bool:
    listed = [entry if isinstance(entry, str) else entry.get("role", entry.get("name")) for entry in play.get("roles", [])]
    return role in listed or any(role in roles_included(task) for task in flatten(play.get("tasks")))


def markers(path: Path) -> set[str]:
    """The roles that a file of tests names: `pytest.mark.role("x")`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    marks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "role"]
    return {word.value for call in marks for word in call.args if isinstance(word, ast.Constant) and isinstance(word.value, str)}


@each_persona
def test_persona_playbook_plays_its_role_on_its_group(persona: str) -> None:
    plays = load(REPO / f"playbooks/{persona}.yml")
    others = {play.get("hosts") for play in plays} - {persona}
    assert not others, f"playbooks/{persona}.yml: plays on {sorted(map(str, others))}; let every play say `hosts: {persona}`."
    assert (REPO / f"roles/{persona}/tasks/main.yml").exists(), f"{persona}: has a playbook but no role roles/{persona}/."
    assert any(plays_role(play, persona) for play in plays), f"playbooks/{persona}.yml: does not play the role {persona}."


@each_persona
def test_persona_has_a_scenario(persona: str) -> None:
    assert persona in SCENARIOS, f"{persona}: add molecule/{persona}/molecule.yml; see CONTRIBUTING.md, a persona."


@each_persona
def test_persona_is_checked_on_its_hosts(persona: str) -> None:
    found = [path for path in REPO.glob("tests/hosts/test_*.py") if persona in markers(path)]
    assert found, f'{persona}: mark a test in tests/hosts with pytest.mark.role("{persona}"); verify would look at nothing.'


@each_persona
def test_persona_has_a_group_in_the_example_inventory(persona: str) -> None:
    inventories = [path.read_text() for path in REPO.glob("inventories/example/*") if path.is_file()]
    group = re.compile(rf"^\s*(\[{persona}\]|{persona}:)", re.MULTILINE)
    assert any(group.search(text) for text in inventories), f"{persona}: add the group to inventories/example, so that people can copy it."


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_has_a_playbook(scenario: str) -> None:
    assert scenario in PERSONAS, f"molecule/{scenario}: has no playbooks/{scenario}.yml; a scenario's name is a persona's."


def test_site_imports_every_persona() -> None:
    imports = [str(argument(play, "import_playbook")) for play in load(REPO / "site.yml") or []]
    wanted = [f"playbooks/{persona}.yml" for persona in PERSONAS]
    assert sorted(imports) == wanted, "site.yml: import each playbook of playbooks/ once, and nothing else."


def imports_of(persona: str, chapter: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The roles that a persona's chapter imports or includes: the task, and the arguments of import_role or include_role."""
    tasks = load(REPO / f"roles/{persona}/tasks/{chapter}.yml")  # not what stands in blocks: that prepares a host for the others
    return [(task, arguments) for task in tasks if (arguments := argument(task, "import_role") or argument(task, "include_role"))]


@each_persona
def test_persona_says_its_platforms(persona: str) -> None:
    """gpu_detect reads them there, for hosts of several personas too."""
    known = load(REPO / "roles/gpu_detect/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["gpu_detect_requires"]["choices"]
    platforms = (load(REPO / f"roles/{persona}/vars/main.yml") or {}).get(f"__{persona}_platforms")
    assert platforms, f"roles/{persona}/vars/main.yml: say in __{persona}_platforms where the persona is supported."
    assert not set(platforms) - set(known), f"roles/{persona}/vars/main.yml: {sorted(set(platforms) - set(known))} are not platforms."
    first, arguments = imports_of(persona, "validate")[0]
    wanted = {"gpu_detect_requires": f"{{{{ __{persona}_platforms }}}}"}
    right = (arguments["name"], first.get("vars")) == ("gpu_detect", wanted)
    assert right, f"{persona}: validate.yml imports gpu_detect first, with {wanted}."


@each_persona
def test_persona_can_be_played_by_tags(persona: str) -> None:
    """What every block needs runs always; each block has its own name as a tag."""
    tasks = list(flatten(load(REPO / f"roles/{persona}/tasks/validate.yml")))
    assert tasks[0].get("tags") == ["always"], f"{persona}: tag role_arguments `always`."
    for task, arguments in [*imports_of(persona, "validate"), *imports_of(persona, "apply")]:
        name = arguments["name"]
        wanted = "always" if name == "gpu_detect" else name
        assert wanted in task.get("tags", []), f"{persona}: `{task['name']}` needs the tag {wanted}."
        if argument(task, "include_role"):
            inside = arguments.get("apply", {}).get("tags", [])
            assert inside == task["tags"], f"{persona}: `{task['name']}` needs the tags under `apply` too: its tasks do not inherit them."


@each_persona
def test_persona_includes_what_may_be_left_out(persona: str) -> None:
    """Tasks that are imported and skipped register that: forja_reports would forget what the roles before them reported."""
    for chapter in ("validate", "apply"):
        blocks = [task for task, arguments in imports_of(persona, chapter) if arguments["name"] != "gpu_detect"]
        for task in blocks[1:]:  # before the first one nothing has been reported
            assert "when" not in task or argument(task, "include_role"), (
                f"{persona}: {chapter}.yml: `{task['name']}` has a `when`; take include_role with `apply: {{tags: [...]}}`.")


@pytest.mark.parametrize("role", [role for role in ROLES if role not in PERSONAS])
def test_block_includes_another_that_it_may_skip(role: str) -> None:
    """Imported and skipped, the other's variables would be registered as skipped, and its next chapter would read them so."""
    for path in task_files(role):
        for task in flatten(load(path)):
            other = (argument(task, "import_role") or {}).get("name")
            assert not (other and "when" in task), (
                f"{path.relative_to(REPO)}: `{task['name']}` imports {other} under a `when`; take include_role.")


@each_persona
def test_persona_validates_every_block_that_it_applies(persona: str) -> None:
    """Before the first change, and with the same variables."""
    parts = {chapter: [(arguments["name"], task.get("vars"), task.get("when")) for task, arguments in imports_of(persona, chapter)]
             for chapter in ("validate", "apply")}
    validated = [part for part in parts["validate"] if part[0] != "gpu_detect"]
    assert validated == parts["apply"], f"{persona}: validate.yml and apply.yml differ."
    for chapter in parts:
        for task, arguments in imports_of(persona, chapter):
            if arguments["name"] != "gpu_detect":
                assert arguments.get("tasks_from") == chapter, f"{persona}: `{task['name']}` needs tasks_from: {chapter}."
