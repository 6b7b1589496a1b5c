# SPDX-License-Identifier: Apache-2.0
"""Give a role its variables in the types of its meta/argument_specs.yml, or one error that names all that is wrong.

Inventories in INI form and `-e x=false` give strings; a typing error in a variable's name gives nothing at all. This is the
one place where both are dealt with, so that a role works with values that are what its specs say.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.validation import check_type_bool, check_type_float, check_type_int
from ansible.plugins.action import ActionBase

Spec = Mapping[str, Mapping[str, Any]]

# Variables that belong to no role, and what every role's last task registers.
PROJECT = "forja"
PROJECT_WIDE = ("forja_mirror", "forja_registry", "forja_reboot", "forja_reports", "forja_gpu", "forja_progress")
# Shorter names are too near to other words: img is mig with two letters exchanged.
SHORTEST_MISSPELT = 5
SHOWN = 60  # characters of a value in an error


def read_spec(role_path: Path) -> Spec:
    """Read the options of a role's entry point main."""
    text = (role_path / "meta" / "argument_specs.yml").read_text()
    options: Spec = yaml.safe_load(text)["argument_specs"]["main"].get("options") or {}
    return options


# Names


def misspelt(variables: Mapping[str, Any], role: str, spec: Spec, siblings: Sequence[str] = ()) -> list[str]:
    """Return a sentence for each variable that is a misspelt one of the role or of the project.

    A variable with the role's prefix must be one of its own; what looks like a registered result is somebody's own business. A
    variable with a prefix that is one typing error away is reported only if the rest of its name is exactly right.
    """
    longer = tuple(f"{other}_" for other in siblings if other.startswith(f"{role}_"))
    others = tuple(f"{other}_" for other in siblings if other != role)
    sentences = []
    for name in sorted(name for name in variables if name not in spec and not _registered(variables[name])):
        right = name.lower().replace("-", "_")
        if name.startswith(f"{role}_") and not name.startswith(longer or "\0"):
            sentences.append(f"{name} is not a variable of the role {role}{_hint(name, role, spec)}")
        elif name.startswith(f"{PROJECT}_") and name not in PROJECT_WIDE:
            sentences.append(f"{name} is not a variable of the project{_hint(name, PROJECT, PROJECT_WIDE)}")
        elif right != name and right in spec:
            sentences.append(f"{name} is not a variable; did you mean {right}?")
        elif not name.startswith(others or "\0"):
            sentences += [f"{name} is not a variable; did you mean {near}?" for near in _other_prefix(name, role, spec)[:1]]
    return sentences


def _registered(value: Any) -> bool:
    return isinstance(value, Mapping) and {"changed", "failed"} <= set(value)


def _hint(name: str, prefix: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the nearest right name; what all names have in common does not count."""
    rests = {other[len(prefix) :]: other for other in known}
    near = difflib.get_close_matches(name[len(prefix) :], rests, 1)
    return f"; did you mean {rests[near[0]]}?" if near else "."


def _other_prefix(name: str, role: str, spec: Spec) -> list[str]:
    """Return the variables whose name this is but for one typing error in the role's part of it."""
    if len(role) < SHORTEST_MISSPELT:
        return []
    rests = [(option, option[len(role) :]) for option in spec if option.startswith(f"{role}_")]
    return [option for option, rest in rests if name.endswith(rest) and one_error(name[: -len(rest)], role)]


def one_error(word: str, right: str) -> bool:
    """Return whether one letter is missing, added or another one, or two neighbours are exchanged."""
    if abs(len(word) - len(right)) > 1 or word == right:
        return False
    start = next((at for at, (one, other) in enumerate(zip(word, right, strict=False)) if one != other), min(len(word), len(right)))
    one, other = word[start:], right[start:]
    exchanged = len(one) > 1 and one[1::-1] == other[:2] and one[2:] == other[2:]
    return exchanged or one[1:] == other[1:] or one[1:] == other or one == other[1:]


def overridden(variables: Mapping[str, Any], overrides: Mapping[str, str], defaults: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each variable of a block that is set although the persona has a variable of its own for it.

    `overrides` maps the block's variable to the persona's, `defaults` the block's variable to its default, which is no setting.
    """
    return [
        f"{name} is set to {shown(variables[name])}. Set {own} instead (now {shown(variables.get(own))}), which decides here."
        for name, own in overrides.items()
        if name in variables and variables[name] not in (defaults.get(name), variables.get(own))
    ]


# Values


class Values:
    """Reads values in the types of a spec; `faults` holds a sentence for each that cannot be."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._refused: set[str] = set()

    def refuse(self, label: str, value: Any, expected: str, option: Mapping[str, Any]) -> None:
        """Add a sentence; `value` is shown unless the option holds a secret."""
        self._refused.add(label)
        self.faults.append(f"{label} {'has a value that is hidden' if option.get('no_log') else f'is {shown(value)}'}; {expected}.")

    def read(self, value: Any, option: Mapping[str, Any], label: str, short: str | None = None) -> Any:
        """Return the value in the option's type, or note a fault; nothing at all is an empty string, list or dictionary."""
        kind = option.get("type", "str")
        reader: Callable[[Any, Mapping[str, Any], str], Any] = getattr(self, f"_{kind}", self._raw)
        if kind == "list":
            return self._list(value, option, label, short)
        if kind == "dict" or (kind == "raw" and option.get("options")):
            reader = self._dict
        result = reader(value, option, label)
        choices = option.get("choices")
        if choices and label not in self._refused and result not in choices:
            self.refuse(label, value, f"it must be {either(choices)}", option)
        return result

    def _raw(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        return value

    def _str(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        if isinstance(value, bool):
            # YAML reads yes and no as booleans.
            return next((word for word in option.get("choices") or () if word in (("yes", "on") if value else ("no", "off"))), str(value))
        if isinstance(value, float):
            self.refuse(label, value, "write it in quotes, a number loses its last zeros", option)
        elif isinstance(value, Mapping | list | tuple):
            self.refuse(label, value, "it must be a string", option)
        return "" if value is None else str(value) if isinstance(value, int) else value

    def _path(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        path = self._str(value, option, label)
        if isinstance(path, str) and path and not path.startswith("/"):
            self.refuse(label, value, "it must be an absolute path", option)
        return path

    def _bool(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        return self._by(check_type_bool, value, "it must be true or false", option, label)

    def _int(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        return self._by(_number(check_type_int), value, "it must be a whole number", option, label)

    def _float(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        return self._by(_number(check_type_float), value, "it must be a number", option, label)

    def _by(self, check: Callable[[Any], Any], value: Any, expected: str, option: Mapping[str, Any], label: str) -> Any:
        try:
            return check(value)
        except (TypeError, ValueError):
            self.refuse(label, value, expected, option)
            return value

    def _dict(self, value: Any, option: Mapping[str, Any], label: str) -> Any:
        value = {} if value is None or value == "" else written_out(value)
        if not isinstance(value, Mapping):
            self.refuse(label, value, "it must be a dictionary", option)
            return value
        return self.options(value, option["options"], label) if option.get("options") else dict(value)

    def _list(self, value: Any, option: Mapping[str, Any], label: str, short: str | None) -> Any:
        value = written_out(value)
        alone = not isinstance(value, list | tuple)
        if alone:
            value = [] if value is None or value == "" else _parted(value) if isinstance(value, str) else [value]
        element = {**option, "type": option.get("elements", "raw"), "default": None}
        items = [{short: item} if short and isinstance(item, str) else item for item in value]
        return [self.read(item, element, label if alone else f"{label}[{at}]") for at, item in enumerate(items)]

    def options(self, values: Mapping[str, Any], spec: Spec, label: str) -> dict[str, Any]:
        """Return the sub-options of one dictionary, with the defaults of those that are not given."""
        for name in values:
            if name not in spec:
                near = difflib.get_close_matches(str(name), spec, 1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(spec)}."
                self.faults.append(f"{label}.{name} is not known; {hint}")
        found = {}
        for name, option in spec.items():
            if values.get(name) is not None:
                found[name] = self.read(values[name], option, f"{label}.{name}")
            elif option.get("required"):
                self.faults.append(f"{label}.{name} is missing.")
            elif option.get("default") is not None:
                found[name] = option["default"]
        return found


def _number(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `check` without its liking for booleans, which Python counts among the numbers."""
    return lambda value: check(None if isinstance(value, bool) else value)


def written_out(value: Any) -> Any:
    """Return what a string that begins like a list or a dictionary says, as from `-e` or an inventory in INI form."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            return value
        return parsed if isinstance(parsed, list | dict) else value
    return value


def _parted(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def shown(value: Any) -> str:
    """Return a value as a person would write it, cut to what fits into a sentence."""
    if isinstance(value, Mapping):
        return "a dictionary"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else f"the number {value}"
    return text if len(text) <= SHOWN else f'{text[: SHOWN - 4]}..."'


def either(choices: Sequence[Any]) -> str:
    *first, last = map(str, choices)
    return f"{', '.join(first)} or {last}" if first else last


def arguments(values: Mapping[str, Any], spec: Spec, role: str, shorthand: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values in the types of the spec by their names without the role's prefix, and a sentence for each fault."""
    reader = Values()
    found = {}
    for name, option in spec.items():
        key = name.removeprefix(f"{role}_")  # forja_reboot and its like keep their whole name
        if name in values:
            found[key] = reader.read(values[name], option, name, shorthand.get(name))
        elif option.get("required"):
            reader.faults.append(f"{name} is missing.")
        else:
            found[key] = option.get("default")
    return found, reader.faults


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    _requires_connection = False
    _VALID_ARGS = frozenset(("overrides", "shorthand"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if not self._task._role:
            raise AnsibleActionFail("role_arguments reads the specs of the role around it; this task is in no role.")
        path = Path(self._task._role._role_path)
        role, spec = path.name, read_spec(path)
        siblings = [other.name for other in path.parent.iterdir() if other.is_dir()]
        faults = misspelt(variables, role, spec, siblings) + self._overridden(variables, path.parent, siblings)
        values, secret = {}, any(option.get("no_log") for option in spec.values())
        for name in (name for name in spec if name in variables):
            try:
                values[name] = self._templar.template(variables[name])
            except AnsibleError as error:
                faults.append(f"{name} cannot be read: {str(error).rstrip('.')}.")
        # What cannot be read is reported once, by the sentence above.
        readable = {name: option for name, option in spec.items() if name in values or name not in variables}
        found, more = arguments(values, readable, role, self._task.args.get("shorthand") or {})
        if faults + more:
            return {**result, "failed": True, "msg": "\n".join(faults + more)}
        return {**result, **found, "changed": False, **({"_ansible_no_log": True} if secret else {})}

    def _overridden(self, variables: Mapping[str, Any], roles: Path, siblings: Sequence[str]) -> list[str]:
        overrides: Mapping[str, str] = self._task.args.get("overrides") or {}
        defaults = {}
        for name in overrides:
            owner = max((other for other in siblings if name.startswith(f"{other}_")), key=len, default=None)
            if owner is None:
                raise AnsibleActionFail(f"overrides: {name} is not a variable of a role beside this one.")
            defaults[name] = read_spec(roles / owner).get(name, {}).get("default")
        return overridden(variables, overrides, defaults)
