# SPDX-License-Identifier: Apache-2.0
"""What host tests take for wanted: the roles of a host by its groups, and its variables in the types of the specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hosts.wanted import Wanted, inventory_of, roles_of

FILES = {
    "desk/tasks/main.yml": """
- import_role: {name: engine}
- name: Together
  vars: {models_host: "{{ __desk.host }}", __desk_inner: 1}
  block:
    - {ansible.builtin.include_role: {name: models}, when: desk_models}
""",
    "desk/defaults/main.yml": "{desk_host: '0.0.0.0:1', desk_models: true}",
    "engine/tasks/main.yml": "[]",
    "engine/defaults/main.yml": "{engine_users: [], engine_url: 'https://x/{{ ansible_facts.distribution }}'}",
    "models/tasks/topic/more.yml": "[]",
    "models/defaults/main.yml": "{models_host: '127.0.0.1:1', models_list: [], models_purge: false}",
    "alone/tasks/main.yml": "[]",
}
OPTIONS = {
    "desk": {"desk_host": {"type": "str"}, "desk_models": {"type": "bool"}},
    "engine": {"engine_users": {"type": "list", "elements": "str"}, "engine_url": {"type": "str"}},
    "models": {
        "models_host": {"type": "str"}, "models_purge": {"type": "bool"},
        "models_list": {"type": "list", "elements": "raw", "options": {"name": {"type": "str"}}},
    },
    "alone": {},
}  # fmt: skip


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for role, options in OPTIONS.items():
        (tmp_path / role / "meta").mkdir(parents=True)
        (tmp_path / role / "meta/argument_specs.yml").write_text(str({"argument_specs": {"main": {"options": options}}}))
    return tmp_path


def wanted(roles: Path, tmp_path: Path, facts: dict[str, Any] | None = None, **variables: Any) -> Wanted:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(str({"desk": {"hosts": {"a": {}}, "vars": variables}}))
    return Wanted(inventory_of(str(inventory), "a"), lambda: facts or {}, roles)


def test_a_persona_brings_the_roles_that_it_lists(roles: Path) -> None:
    assert roles_of(["desk", "lab", "all"], roles) == ["desk", "engine", "models"]
    assert roles_of(["alone"], roles) == ["alone"]
    assert roles_of(["nobody"], roles) == []


def test_the_persona_comes_before_the_inventory_and_that_before_defaults(roles: Path, tmp_path: Path) -> None:
    found = wanted(roles, tmp_path, desk_host="10.0.0.1:1", models_host="10.9.9.9:1")
    assert found["models_host"] == "10.0.0.1:1"
    assert found["desk_host"] == "10.0.0.1:1"
    assert found["engine_users"] == []
    assert "__desk_inner" not in found


def test_values_have_the_types_of_the_specs(roles: Path, tmp_path: Path) -> None:
    found = wanted(roles, tmp_path, models_purge="yes", engine_users="admin", models_list=["x:1", {"name": "y:2"}])
    assert found["models_purge"] is True
    assert found["engine_users"] == ["admin"]
    assert found["models_list"] == [{"name": "x:1"}, {"name": "y:2"}]


def test_templates_are_expanded_and_facts_only_read_when_needed(roles: Path, tmp_path: Path) -> None:
    found = wanted(roles, tmp_path, {"distribution": "Debian"}, engine_users=["{{ me }}"], me="admin")
    assert found["engine_users"] == ["admin"]
    assert "Debian" not in str(dict(found._values).get("ansible_facts"))
    assert found["engine_url"] == "https://x/Debian"


def test_the_workstation_has_its_blocks() -> None:
    assert {"workstation", "gpu_detect", "nvidia_driver", "docker", "ollama"} <= set(roles_of(["workstation"]))
