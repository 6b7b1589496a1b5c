# SPDX-License-Identifier: Apache-2.0
"""Rules for roles. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import jinja2
import jinja2.meta

from tests.house.tree import (
    LOOKED,
    PERSONAS,
    PROJECT_WIDE,
    REPO,
    REPORTS,
    ROLES,
    argument,
    defaults_of,
    each_role,
    flatten,
    functions,
    load,
    public,
    roles_included,
    spec_of,
    task_files,
    tasks_of,
)

TYPES: dict[type, set[str]] = {
    bool: {"bool"},
    int: {"int", "float"},
    float: {"float"},
    str: {"str", "path"},
    list: {"list"},
    dict: {"dict"},
}


@each_role
def test_role_has_the_same_variables_in_specs_and_defaults(role: str) -> None:
    spec, defaults = spec_of(role), defaults_of(role)
    required = {name for name, option in spec.items() if option.get("required")}
    undocumented = set(defaults) - set(spec)
    assert not undocumented, f"{role}: describe {sorted(undocumented)} in meta/argument_specs.yml, or make it private (__{role}_...)."
    without = set(spec) - set(defaults) - required
    assert not without, f"{role}: give {sorted(without)} a default in defaults/main.yml, or mark it `required: true`."
    both = required & set(defaults)
    assert not both, f"{role}: {sorted(both)} cannot be required and have a default; drop one of the two."


@each_role
def test_role_has_the_same_defaults_in_specs_and_defaults(role: str) -> None:
    for name, value in defaults_of(role).items():
        option = spec_of(role).get(name, {})
        stated = option.get("default")
        equal = type(stated) is type(value) and stated == value
        assert equal, f"{role}: {name} is {value!r} in defaults/main.yml but {stated!r} in meta/argument_specs.yml; make them equal."
        if value is None or (isinstance(value, str) and "{{" in value):
            continue
        assert option["type"] in TYPES[type(value)] | {"raw"}, f"{role}: {name} has type {option['type']} but its default is {value!r}."
        choices = option.get("choices")
        outside = [item for item in (value if isinstance(value, list) else [value]) if choices and item not in choices]
        assert not outside, f"{role}: the default of {name} holds {outside}, not among its choices {choices}."


@each_role
def test_role_options_are_described(role: str) -> None:
    def incomplete(options: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for name, option in options.items():
            wanted = ["type", "description", *(["elements"] if option.get("type") == "list" else [])]
            yield from (f"{prefix}{name}.{key}" for key in wanted if not option.get(key))
            yield from incomplete(option.get("options") or {}, f"{prefix}{name}.")

    missing = list(incomplete(spec_of(role)))
    assert not missing, f"{role}: meta/argument_specs.yml lacks {missing}; a reader needs the type and a sentence."


@each_role
def test_role_variables_carry_its_name(role: str) -> None:
    strange = {name for name in public(role) - PROJECT_WIDE if not name.startswith(f"{role}_")}
    assert not strange, f"{role}: rename {sorted(strange)} to {role}_..., a variable's name says whose it is."


@each_role
def test_role_keeps_its_inner_variables_private(role: str) -> None:
    inner = {name for path in REPO.glob(f"roles/{role}/vars/**/*.yml") for name in load(path) or {}}
    for task in tasks_of(role):
        handed_over = set().union(*(public(other) for other in roles_included(task)))
        inner |= set(task.get("vars") or {}) - handed_over
        inner |= set(argument(task, "set_fact") or {}) - {"cacheable"}
        inner |= {name for name in (task.get("register"), (task.get("loop_control") or {}).get("loop_var")) if name}
    open_ = {name for name in inner - {REPORTS, LOOKED, f"__{role}"} if not name.startswith(f"__{role}_")}
    assert not open_, f"{role}: rename {sorted(open_)} to __{role}_...; public variables stand in defaults/main.yml and nowhere else."


def expressions(value: Any, bare: bool = False) -> Iterator[str]:
    """The Jinja templates in a YAML value; `when` and its like hold expressions without braces."""
    if isinstance(value, str):
        yield f"{{{{ {value} }}}}" if bare else value
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, bare)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from expressions(item, key in {"when", "failed_when", "changed_when", "until", "that"})


class Everything(dict[str, Any]):
    """The filters and tests of Ansible, none of which needs to be here for finding the variables of a template."""

    def get(self, name: str, default: Any = None) -> Any:
        return len


def variables(template: str) -> set[str]:
    environment = jinja2.Environment()
    environment.filters = environment.tests = Everything()
    found: set[str] = jinja2.meta.find_undeclared_variables(environment.parse(template))
    return found


@each_role
def test_role_reads_no_hidden_variable(role: str) -> None:
    """`x_retries | default(3)` in a task is a public variable that nobody can find."""
    templates = [path.read_text() for path in REPO.glob(f"roles/{role}/templates/**/*") if path.is_file()]
    for path in REPO.glob(f"roles/{role}/**/*.yml"):
        if path.parent.name not in {"meta", "templates"}:
            templates += expressions(load(path))
    used = set().union(*map(variables, templates))
    for name in sorted(used):
        # The longest name wins: docker_context_x belongs to a role docker_context before it belongs to docker.
        owner = max((other for other in ROLES if name.startswith(f"{other}_")), key=len, default=None)
        assert owner is None or name in public(owner), f"{role}: reads {name}, which {owner} does not offer; add it to defaults and specs."
        foreign = name.startswith("__") and name != f"__{role}" and not name.startswith(f"__{role}_")
        assert not foreign, f"{role}: {name} is private to another role; do not read it."
        known = not name.startswith("forja_") or name in PROJECT_WIDE | {REPORTS, LOOKED}
        assert known, f"{role}: {name} is not one of {sorted(PROJECT_WIDE)}."


@each_role
def test_role_is_short(role: str) -> None:
    for path in REPO.glob(f"roles/{role}/tasks/**/*.yml"):
        count, main = len(path.read_text().splitlines()), path == REPO / f"roles/{role}/tasks/main.yml"
        most = 160 if role in PERSONAS else 80  # a persona's chapter is one list of blocks
        assert count <= most, f"{path.relative_to(REPO)} has {count} lines: cut it by topic, at most {most} each."
        assert not main or count <= 50, f"{path.relative_to(REPO)} has {count} lines: it is a table of contents; at most 50."


@each_role
def test_role_has_meta(role: str) -> None:
    info = (load(REPO / f"roles/{role}/meta/main.yml") or {}).get("galaxy_info", {})
    missing = {"role_name", "author", "description", "license", "min_ansible_version", "platforms"} - set(info)
    assert not missing, f"{role}: meta/main.yml lacks {sorted(missing)} in galaxy_info."
    assert info["role_name"] == role, f"{role}: role_name in meta/main.yml is {info['role_name']!r}; it must be the folder's name."


@each_role
def test_role_is_checked_on_a_host(role: str) -> None:
    path = REPO / f"tests/hosts/test_{role}.py"
    assert path.exists(), f"{role}: write tests/hosts/test_{role}.py, which looks at a host without Ansible."
    tests = [node for name, node in functions(path).items() if name.startswith("test_")]
    assert any(isinstance(part, ast.Assert) for node in tests for part in ast.walk(node)), f"tests/hosts/test_{role}.py asserts nothing."


@each_role
def test_role_runs_no_shell_and_hides_no_error(role: str) -> None:
    for task in tasks_of(role):
        name = task.get("name", task)
        shells = [action for action in ("shell", "raw", "script") if argument(task, action) is not None]
        assert not shells, f"{role}: `{name}` uses {shells[0]}; use a module, or command with argv. What parses output is a module."
        command = argument(task, "command")
        assert command is None or (isinstance(command, dict) and "argv" in command), f"{role}: `{name}` must give command an argv list."
        assert "ignore_errors" not in task, f"{role}: `{name}` ignores errors; say with failed_when which result is not a failure."


@each_role
def test_role_says_why_a_task_changes_nothing(role: str) -> None:
    for path in task_files(role):
        lines = ["", *path.read_text().splitlines()]
        for number, (before, line) in enumerate(zip(lines, lines[1:], strict=False), 1):
            if re.match(r"\s*(- )?changed_when:\s*(false|no)\b", line, re.IGNORECASE):
                explained = "#" in before or "#" in line
                assert explained, f"{path.relative_to(REPO)}:{number}: say in a comment here why this command changes nothing."


@each_role
def test_role_names_its_handlers(role: str) -> None:
    """Handlers of all roles share one space of names: two called `Restart` are one."""
    for handler in [task for path in REPO.glob(f"roles/{role}/handlers/*.yml") for task in flatten(load(path))]:
        words = re.sub(r"\W+|_", " ", handler["name"].lower())
        assert words.startswith(role.replace("_", " ")), f"{role}: let the name of the handler `{handler['name']}` begin with the role's."


@each_role
def test_role_reports_to_the_summary_by_the_action_report(role: str) -> None:
    wrong = [task["name"] for task in tasks_of(role) if argument(task, "set_stats") is not None]
    assert not wrong, f"{role}: {wrong} use set_stats; `report` keeps the data under the role's name and tells later roles."


@each_role
def test_role_uses_only_collections_that_galaxy_yml_names(role: str) -> None:
    used = {".".join(key.split(".")[:2]) for task in tasks_of(role) for key in task if re.fullmatch(r"\w+\.\w+\.\w+", key)}
    unknown = used - {"ansible.builtin", "ansible.legacy"} - set(load(REPO / "galaxy.yml").get("dependencies") or {})
    assert not unknown, f"{role}: add {sorted(unknown)} to galaxy.yml and requirements.yml, or do without."
