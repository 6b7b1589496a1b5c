# SPDX-License-Identifier: Apache-2.0
"""The text of a configuration file as data: JSON with what Python has, YAML 1.1 with PyYAML. A key given twice is an error."""

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ...host.errors import ForjaError


class ConfigError(ForjaError):
    """The message names the label and the entry, what is wrong and what to do."""


def parse(text: str) -> Any:
    """Raises ConfigError. A text that begins with { is read as JSON first, which needs no PyYAML."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_object)
        except ValueError as error:
            return _yaml(text, f"This begins like JSON but is none: {error}. ")
    return _yaml(text)


def items(data: Mapping[Any, Any], where: str) -> List[Tuple[str, Any]]:
    """What stands in a mapping, the keys as mig-parted sees them: on, yes and true are the text true, numbers are their digits."""
    found: Dict[str, Any] = {}
    for key, value in data.items():
        text = {True: "true", False: "false"}[key] if isinstance(key, bool) else str(key)
        if key is None or isinstance(key, tuple):
            raise ConfigError(f"{where}: {key!r} cannot be a key.")
        if text in found:
            raise ConfigError(f"{where}: the key {text} is given twice (on, yes and true are one key; off, no and false are one).")
        found[text] = value
    return list(found.items())


def known(key: str, keys: Iterable[str], where: str) -> None:
    """Raises ConfigError for a key that is not one of `keys`, naming the one that was perhaps meant."""
    if key not in keys:
        raise ConfigError(f"{where}: unknown key {key}{meant(key, keys)}; known are {', '.join(sorted(keys))}.")


def meant(word: str, words: Iterable[str]) -> str:
    from difflib import get_close_matches  # takes a while to import and is needed for errors only

    close = get_close_matches(word, list(words), 1)
    return f" ({close[0]} is meant?)" if close else ""


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ConfigError(f"The key {next(key for key in keys if keys.count(key) > 1)} is given twice.")
    return found


def _yaml(text: str, before: str = "") -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigError(before + "To read YAML, install python3-yaml; a configuration in JSON needs nothing.") from None
    loader: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"construct_mapping": _mapping})
    # As the YAML library of mig-parted reads: y and n are true and false, a date is a text, and so is what has colons, such as the PCI
    # address 0000:00:04.0, which YAML 1.1 takes for the number 4 to the base of 60.
    loader.yaml_implicit_resolvers = {
        first: [(tag, re.compile("(?!.*:)" + pattern.pattern, pattern.flags) if tag.endswith((":int", ":float")) else pattern)
                for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in loader.yaml_implicit_resolvers.items()}
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]\Z"), list("yYnN"))
    loader.bool_values = dict(loader.bool_values, y=True, n=False)
    try:
        return yaml.load(text, loader)  # noqa: S506  (derived from a safe one)
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"{before}This is not YAML: {' '.join(str(error).split())}") from None


def _mapping(self: Any, node: Any, deep: bool = False) -> Dict[Any, Any]:
    """PyYAML takes the last of two equal keys and says nothing."""
    seen = []
    for key_node, _ in node.value:
        if key_node.tag.endswith(":merge"):
            continue
        key = self.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"Line {key_node.start_mark.line + 1}: the key {key_node.value} is given twice.")
        seen.append(key)
    found: Dict[Any, Any] = super(type(self), self).construct_mapping(node, deep=deep)
    return found
