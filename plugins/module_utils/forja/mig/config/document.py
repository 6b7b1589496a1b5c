# SPDX-License-Identifier: Apache-2.0
"""Parse the text of a configuration file: JSON with Python's own library, YAML 1.1 with PyYAML. A key given twice is an error."""

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from ...host.errors import ForjaError

_MOST_CHARACTERS = 1 << 20
_DEEPEST = 50  # a configuration has five levels
_TOO_DEEP = f"The configuration is nested more than {_DEEPEST} levels deep."
_SHOWN = 60
_LARGEST = 10**18


class ConfigError(ForjaError):
    """Raised for a configuration that is not valid; the message names the label and the entry, what is wrong and what to do."""


class MissingYamlError(ConfigError):
    """Raised when a configuration is YAML and this Python has no PyYAML."""


def parse(text: str) -> Any:
    """Parse a text. One that begins with { is read as JSON first, which needs no PyYAML. Raises ConfigError."""
    _check_size(text)
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_object)
        except RecursionError:
            raise ConfigError(_TOO_DEEP) from None
        except ValueError as error:
            return _yaml(text, f"Looks like JSON but is not valid: {error}. ")
    return _yaml(text)


def _check_size(text: str) -> None:
    """Refuse what a parser needs too much memory or time for."""
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"The configuration has {len(text)} characters; at most {_MOST_CHARACTERS} are read.")


def items(data: Mapping[Any, Any], where: str) -> List[Tuple[str, Any]]:
    """List a mapping, the keys as mig-parted sees them: on, yes and true are the text true, numbers are their digits."""
    found: Dict[str, Any] = {}
    for key, value in data.items():
        if key is None or isinstance(key, tuple) or (isinstance(key, int) and abs(key) > _LARGEST):
            raise ConfigError(f"{where}: {shortened(key)} is not valid as a key.")
        text = {True: "true", False: "false"}[key] if isinstance(key, bool) else str(key)
        if text in found:
            raise ConfigError(f"{where}: the key {shortened(text)} is given twice (on, yes and true are one key; so are off, no and "
                              "false).")
        found[text] = value
    return list(found.items())


def known(key: str, keys: Iterable[str], where: str) -> None:
    """Check that a key is one of `keys`. Raises ConfigError, which suggests the nearest."""
    if key not in keys:
        raise ConfigError(f"{where}: unknown key {shortened(key)}{suggestion(key, keys)}; known are {', '.join(sorted(keys))}.")


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return the nearest of `names` in brackets, nothing where none is near."""
    from difflib import get_close_matches  # takes a while to import and is needed for errors only

    close = get_close_matches(name[:_SHOWN], list(names), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def shortened(data: Any) -> str:
    """Render data for a message, cut where it is long."""
    if isinstance(data, int) and abs(data) > _LARGEST:
        return "a number of too many digits"
    text = data if isinstance(data, str) else repr(data)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ConfigError(f"The key {next(shortened(key) for key in keys if keys.count(key) > 1)} is given twice.")
    return found


def _yaml(text: str, before: str = "") -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingYamlError(before + "To read YAML, install python3-yaml; a configuration in JSON needs nothing.") from None
    loader: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"construct_mapping": _mapping})
    # As mig-parted's YAML library reads: y and n are true and false; a date is a string, and so is anything with colons, such as the PCI
    # address 0000:00:04.0, which YAML 1.1 takes for the number 4 to the base of 60.
    loader.yaml_implicit_resolvers = {
        first: [(tag, re.compile("(?!.*:)" + pattern.pattern, pattern.flags) if tag.endswith((":int", ":float")) else pattern)
                for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in loader.yaml_implicit_resolvers.items()}
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]\Z"), list("yYnN"))
    loader.bool_values = dict(loader.bool_values, y=True, n=False)
    try:
        _check_depth(yaml, text, loader)
        return yaml.load(text, loader)  # noqa: S506  (derived from a safe one)
    except (yaml.YAMLError, ValueError) as error:  # a date, or a number of too many digits
        raise ConfigError(f"{before}This is not YAML: {' '.join(str(error).split())}") from None


def _check_depth(yaml: Any, text: str, loader: Any) -> None:
    """Refuse what is nested too deeply. The loader recurses, in C until the process crashes; the parser does not."""
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ConfigError(_TOO_DEEP)


def _mapping(self: Any, node: Any, deep: bool = False) -> Dict[Any, Any]:
    """Build a mapping and refuse equal keys, of which PyYAML silently takes the last."""
    seen = []
    for key_node, _ in node.value:
        if key_node.tag.endswith(":merge"):
            continue
        key = self.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"Line {key_node.start_mark.line + 1}: the key {shortened(key_node.value)} is given twice.")
        seen.append(key)
    found: Dict[Any, Any] = super(type(self), self).construct_mapping(node, deep=deep)
    return found
