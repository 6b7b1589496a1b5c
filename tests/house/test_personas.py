# SPDX-License-Identifier: Apache-2.0
"""One name, five places: rules for personas. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import PERSONAS, PLATFORMS, REPO, SCENARIOS, argument, each_persona, flatten, load, roles_included


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
    plays = load(REPO / "site.yml") or []
    imports = [str(argument(play, "import_playbook")) for play in plays]
    assert imports[0] == f"playbooks/{PLATFORMS}.yml", "site.yml: refuse what cannot be before anything is changed."
    wanted = [f"playbooks/{persona}.yml" for persona in PERSONAS]
    assert sorted(imports[1:]) == wanted, "site.yml: import each playbook of playbooks/ once, and nothing else."


def test_every_persona_has_its_platforms() -> None:
    known = load(REPO / "roles/gpu_detect/vars/main.yml")["__gpu_detect_personas"]
    missing = set(PERSONAS) - set(known)
    assert not missing, f"roles/gpu_detect/vars/main.yml: say in __gpu_detect_personas on which platforms {sorted(missing)} can be."
    early = (REPO / f"playbooks/{PLATFORMS}.yml").read_text()
    for persona in known:
        told = f'"{persona}"' in early
        assert told is (persona not in PERSONAS), f"playbooks/{PLATFORMS}.yml names the personas that have no playbook; see {persona}."
