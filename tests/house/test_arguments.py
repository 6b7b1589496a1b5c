# SPDX-License-Identifier: Apache-2.0
"""Rules for how a role gets its variables: by role_arguments, which is tried here with the specs of every role."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.action import role_arguments
from plugins.action.role_arguments import arguments, misspelt
from tests.house.test_roles import expressions, variables
from tests.house.tree import LOOKED, PROJECT_WIDE, REPO, REPORTS, ROLES, argument, each_role, flatten, load, public, spec_of, tasks_of

# Keys of every registered result, and what Jinja finds on a dictionary before it looks at the keys.
TAKEN = {"changed", "failed", "msg", "skipped", "warnings", "deprecations", "exception", "invocation", "results", "diff", "rc",
         "stdout", "stderr", "ansible_facts", "ansible_stats", *(name for name in dir(dict) if not name.startswith("_"))}


def readers(role: str) -> list[dict[str, Any]]:
    return [task for task in tasks_of(role) if "role_arguments" in task]


def shorthand(role: str) -> dict[str, str]:
    return next((dict((task["role_arguments"] or {}).get("shorthand") or {}) for task in readers(role)), {})


def options(kind: str) -> list[Any]:
    found = [(role, name) for role in ROLES for name, option in spec_of(role).items() if option["type"] == kind]
    assert found, f"no role has an option of the type {kind}"
    return [pytest.param(role, name, id=name) for role, name in found]


def read(role: str, name: str, value: Any) -> Any:
    found, faults = arguments({name: value}, {name: spec_of(role)[name]}, role, shorthand(role))
    assert not faults, faults
    return found[name.removeprefix(f"{role}_")]


@each_role
def test_role_begins_with_its_arguments(role: str) -> None:
    first = (list(flatten(load(REPO / f"roles/{role}/tasks/validate.yml"))) or [{}])[0]
    assert len(readers(role)) == 1, f"{role}: exactly one task calls role_arguments, the first of tasks/validate.yml."
    assert "role_arguments" in first, f"{role}: the first task of tasks/validate.yml must be role_arguments."
    assert first.get("register") == f"__{role}", f"{role}: register the result of role_arguments as __{role}."
    assert not {"when", "loop", "check_mode"} & set(first), f"{role}: role_arguments runs always, without `when`."


@each_role
def test_role_reads_public_variables_in_its_defaults_alone(role: str) -> None:
    """Only `__<role>.x` has the type that the spec says; an inventory or -e may give `<role>_x` as a string."""
    known = set().union(*(public(other) for other in ROLES)) - PROJECT_WIDE
    for path in sorted(path for path in REPO.glob(f"roles/{role}/**/*") if path.is_file()):
        place = path.relative_to(REPO / "roles" / role).parts[0]
        if place in {"defaults", "meta", "files", "README.md"}:
            continue
        texts = [path.read_text()] if place == "templates" else list(expressions(load(path)))
        found = set().union(*map(variables, texts)) & known
        assert not found, f"{path.relative_to(REPO)}: reads {sorted(found)}; read __{role}.<name> instead."


@each_role
def test_role_variables_make_usable_keys(role: str) -> None:
    taken = {name for name in spec_of(role) if name.removeprefix(f"{role}_") in TAKEN}
    assert not taken, f"{role}: rename {sorted(taken)}; in __{role} the name without its prefix is that of something else."


@each_role
def test_shorthand_names_lists_with_options(role: str) -> None:
    for name, key in shorthand(role).items():
        option = spec_of(role).get(name, {})
        complete = option.get("elements") == "raw" and key in (option.get("options") or {})
        assert complete, f"{role}: {name} needs `elements: raw` and `options` with {key}, since a string stands for {{{key}: string}}."


@pytest.mark.parametrize(("role", "name"), options("bool"))
def test_string_boolean_is_a_boolean(role: str, name: str) -> None:
    for text, value in {"true": True, "False": False, "yes": True, "no": False, "1": True, "0": False}.items():
        assert read(role, name, text) is value


@pytest.mark.parametrize(("role", "name"), options("list"))
def test_string_is_one_element_of_a_list(role: str, name: str) -> None:
    option = spec_of(role)[name]
    if option["elements"] == "dict":
        key = next(iter(option["options"]))
        samples = {"int": 1, "float": 1.5}
        given: Any = {name: samples.get(sub["type"], "some.unit") for name, sub in option["options"].items() if sub.get("required")}
        given[key] = "some.unit"
    else:
        given = (option.get("choices") or ["192.0.2.0/24"])[0]
    found = read(role, name, given)
    assert isinstance(found, list)
    assert len(found) == 1
    short = shorthand(role).get(name)
    assert (found[0][short] if short else found[0] if isinstance(given, str) else found[0][key]) in (given, "some.unit")


@pytest.mark.parametrize(("role", "name"), options("dict"))
def test_string_in_place_of_a_dictionary_is_refused(role: str, name: str) -> None:
    _, faults = arguments({name: "something"}, {name: spec_of(role)[name]}, role, {})
    value = "has a value that is hidden" if spec_of(role)[name].get("no_log") else 'is "something"'
    assert faults == [f"{name} {value}; it must be a dictionary."]


@each_role
def test_wrong_value_is_one_short_sentence(role: str) -> None:
    for name, option in spec_of(role).items():
        if option["type"] in {"bool", "int"} or option.get("choices"):
            _, faults = arguments({name: "quite wrong"}, {name: option}, role, {})
            assert len(faults) == 1, f"{role}: {name}: {faults}"
            assert faults[0].startswith(f'{name} is "quite wrong"; it must be '), faults
            assert len(faults[0]) < 200, faults


@each_role
def test_misspelt_variable_is_refused_with_the_nearest_name(role: str) -> None:
    spec, wrong = spec_of(role), 0
    for name in spec:
        rest = name[len(role) + 1 :]
        swapped = f"{role}_{rest[:1]}{rest[2:3]}{rest[1:2]}{rest[3:]}"
        if name in PROJECT_WIDE or len(rest) < 4 or swapped in spec or swapped == name:
            continue
        wrong += 1
        assert misspelt({swapped: 1}, role, spec) == [f"{swapped} is not a variable of the role {role}; did you mean {name}?"]
        other = f"{role[1]}{role[0]}{role[2:]}_{rest}"
        if len(role) > 4:
            assert misspelt({other: 1}, role, spec, ROLES) == [f"{other} is not a variable; did you mean {name}?"]
    assert wrong or not spec, f"{role}: no name was tried"


@each_role
def test_variables_of_other_roles_are_not_misspelt_ones(role: str) -> None:
    others = {name: 1 for other in ROLES for name in public(other) if other != role}
    assert misspelt(others, role, spec_of(role), ROLES) == []


def test_arguments_and_house_know_the_same_project_wide_variables() -> None:
    assert set(role_arguments.PROJECT_WIDE) == PROJECT_WIDE | {REPORTS, LOOKED}


def test_no_role_validates_twice() -> None:
    """Ansible's own validation prints the whole spec with each error; within a persona role_arguments is enough."""
    for role in ROLES:
        for task in tasks_of(role):
            imported = next((value for action in ("import_role", "include_role") if (value := argument(task, action))), None)
            if readers(role) and imported and "tasks_from" not in imported:
                assert imported.get("rolespec_validate") is False, f"{role}: import {imported['name']} with rolespec_validate: false."
