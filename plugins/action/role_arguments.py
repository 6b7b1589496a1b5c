# SPDX-License-Identifier: Apache-2.0
"""Give a role its variables in the types of its meta/argument_specs.yml, or one error that names all that is wrong.

Inventories in INI form and `-e x=false` give strings; a typing error in a variable's name gives nothing at all. This is the
one place where both are dealt with, so that a role works with values that are what its specs say.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

Spec = Mapping[str, Mapping[str, Any]]


def read_spec(role_path: Path) -> Spec:
    """Read the options of a role's entry point main."""
    text = (role_path / "meta" / "argument_specs.yml").read_text()
    options: Spec = yaml.safe_load(text)["argument_specs"]["main"].get("options") or {}
    return options


def unknown(names: Iterator[str], role: str, spec: Spec, siblings: list[str]) -> list[str]:
    """Return a sentence for each variable that begins with the role's name and that no role knows."""
    longer = tuple(f"{other}_" for other in siblings if other.startswith(f"{role}_"))
    strange = sorted(name for name in names if name.startswith(f"{role}_") and name not in spec and not name.startswith(longer or "\0"))
    return [f"{name} is not a variable of the role {role}{_hint(name, spec)}." for name in strange]


def _hint(name: str, spec: Spec) -> str:
    near = difflib.get_close_matches(name, spec, 1)
    return f"; did you mean {near[0]}" if near else ""


def plain(value: Any, option: Mapping[str, Any], short: str | None) -> Any:
    """Return the value with a string where a list or a dictionary is meant read as one, and short forms written out."""
    if isinstance(value, str) and option.get("type") in ("list", "dict"):
        if value.strip()[:1] in ("[", "{"):
            value = json.loads(value)
        elif option["type"] == "list":
            value = [item.strip() for item in value.split(",") if item.strip()]
    if short and isinstance(value, list):
        value = [{short: item} if isinstance(item, str) else item for item in value]
    return value


def typed(values: Mapping[str, Any], spec: Spec, role: str) -> tuple[dict[str, Any], list[str]]:
    """Return the values in the types of the spec, without the role's prefix, and what is wrong with them."""
    result = ArgumentSpecValidator(spec).validate(dict(values), validate_role_argument_spec=True)
    return {name[len(role) + 1 :]: value for name, value in result.validated_parameters.items()}, list(result.error_messages)


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    _requires_connection = False
    _VALID_ARGS = frozenset(("shorthand",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if not self._task._role:
            raise AnsibleActionFail("role_arguments reads the specs of the role that it stands in; there is none here.")
        path = Path(self._task._role._role_path)
        role, spec, shorthand = path.name, read_spec(path), self._task.args.get("shorthand") or {}
        siblings = [other.name for other in path.parent.iterdir() if other.is_dir()]
        wrong = unknown(iter(variables), role, spec, siblings)
        values = {}
        for name in (name for name in spec if name in variables):
            try:
                values[name] = plain(self._templar.template(variables[name]), spec[name], shorthand.get(name))
            except (AnsibleError, ValueError) as error:
                wrong.append(f"{name}: {error}")
        arguments, faults = typed(values, spec, role)
        wrong += faults
        if wrong:
            raise AnsibleActionFail(" ".join(wrong))
        secret = any(option.get("no_log") for option in spec.values())
        return {**result, **arguments, "changed": False, **({"_ansible_no_log": True} if secret else {})}
