# SPDX-License-Identifier: Apache-2.0
"""Read from an inventory and the roles' files what a host should be: its roles, and the values of their variables.

Ansible is used as a library here, on the controller alone; no host is asked, unless a value is computed from its facts.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

from plugins.action.role_arguments import Values, read_spec

ROLES = Path(__file__).resolve().parents[2] / "roles"
IMPORTS = [f"{prefix}{verb}_role" for prefix in ("", "ansible.builtin.") for verb in ("import", "include")]
# Fields of a role's variable that hold a short form; a plain string in such a list stands for {name: string}.
SHORT_FORM = "name"


@functools.cache
def _loader() -> DataLoader:
    return DataLoader()


def _read(path: Path) -> Any:
    return _loader().load_from_file(str(path), trusted_as_template=True) if path.exists() else None


def _tasks(tasks: Any) -> Iterator[dict[str, Any]]:
    for task in tasks or []:
        yield task
        for key in ("block", "rescue", "always"):
            yield from _tasks(task.get(key))


@functools.cache
def _tasks_of(role: str, roles: Path) -> list[dict[str, Any]]:
    files = sorted((roles / role / "tasks").glob("**/*.yml"))
    return [task for file in files for task in _tasks(_read(file))]


def roles_of(groups: Iterable[str], roles: Path = ROLES) -> list[str]:
    """Return the roles of a host: those that its groups are named after, and those that these import."""
    found: list[str] = []
    names = [group for group in groups if (roles / group / "tasks").is_dir()]
    while names:
        name = names.pop(0)
        if name not in found:
            found.append(name)
            named = (task[verb] for task in _tasks_of(name, roles) for verb in IMPORTS if verb in task)
            names += [arguments["name"] for arguments in named if (roles / arguments["name"]).is_dir()]
    return sorted(found)


def overrides(role: str, roles: Path = ROLES) -> dict[str, Any]:
    """Return what a persona sets for its blocks: the public variables in `vars` of its tasks."""
    found: dict[str, Any] = {}
    for task in _tasks_of(role, roles):
        found |= {name: _public(value) for name, value in (task.get("vars") or {}).items() if not name.startswith("_")}
    return found


def _public(value: Any) -> Any:
    """Return a value with `__desk.host`, which a role registers while it runs, as the variable `desk_host` that it comes from."""
    if isinstance(value, str):
        return trust_as_template(re.sub(r"\b__([a-z][a-z0-9_]*)\.([a-z]\w*)", r"\1_\2", value))
    if isinstance(value, list):
        return [_public(item) for item in value]
    return {key: _public(item) for key, item in value.items()} if isinstance(value, dict) else value


class Wanted(Mapping[str, Any]):
    """The variables of a host as its roles see them: the persona's before the inventory's before the roles' defaults.

    Values are templated when they are asked for, and have the types of the roles' specs.
    """

    def __init__(self, inventory: Mapping[str, Any], facts: Callable[[], dict[str, Any]], roles: Path = ROLES) -> None:
        self.roles = roles_of(inventory.get("group_names", []), roles)
        self._facts = facts
        self._values: dict[str, Any] = {}
        self._options: dict[str, Mapping[str, Any]] = {}
        for role in self.roles:
            self._values |= _read(roles / role / "defaults/main.yml") or {}
            self._options |= read_spec(roles / role)
        self._values |= inventory
        for role in self.roles:
            self._values |= overrides(role, roles)

    def __getitem__(self, name: str) -> Any:
        value = self._template(self._values[name])
        option = self._options.get(name)
        if option is None:
            return value
        return Values().read(value, option, name, SHORT_FORM if option.get("elements") == "raw" else None)

    def _template(self, value: Any) -> Any:
        templar = Templar(loader=_loader(), variables=self._values)
        try:
            return templar.template(value)
        except AnsibleError:
            if self._values.get("ansible_facts"):
                raise
        self._values["ansible_facts"] = self._facts()
        return self._template(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@functools.cache
def _inventory(path: str) -> VariableManager:
    return VariableManager(loader=_loader(), inventory=InventoryManager(loader=_loader(), sources=[path]))


def hosts_of(path: str) -> list[str]:
    return [str(host) for host in _inventory(path)._inventory.get_hosts()]


def inventory_of(path: str, host: str) -> dict[str, Any]:
    """Return the variables of a host as its inventory states them, templates unexpanded."""
    manager = _inventory(path)
    found: dict[str, Any] = manager.get_vars(host=manager._inventory.get_host(host))
    return found
