# SPDX-License-Identifier: Apache-2.0
"""The engine's configuration file daemon.json: parse, merge, prune, compare, render. Pure; engine.py reads and writes."""

import json
import re
from typing import Any, Dict, List, NoReturn, Optional, Tuple

from ..host.errors import ForjaError

Config = Dict[str, Any]

# The user name and the password in an address stand between // and @.
CREDENTIALS = re.compile(r"//[^\s\"]*@")


def parse(content: Optional[bytes], path: str) -> Config:
    """Parse the file to an object; a missing and an empty file both mean no settings, as they do for the engine.

    Raises ForjaError for what the engine refuses, and for what would not survive being written again: numbers out of range and
    keys that occur twice, of which the engine takes the last.
    """

    def no_number(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a number that JSON knows")

    def number(word: str) -> float:
        value = float(word)
        return value if value - value == 0 else no_number(word)

    def unique(pairs: List[Tuple[str, Any]]) -> Config:
        keys = [key for key, _ in pairs]
        double = sorted({key for key in keys if keys.count(key) > 1})
        if double:
            raise ValueError(f"the key {', '.join(double)} occurs twice in one object; keep one of the two")
        return dict(pairs)

    advice = "The file is kept as it is: repair it or move it away, then run again."
    try:
        text = (content or b"").decode("utf-8-sig")
        if not text.strip():
            return {}
        value = json.loads(text, parse_constant=no_number, parse_float=number, object_pairs_hook=unique)
        render(value)
    except UnicodeError as error:
        raise ForjaError(f"{path} is not text in UTF-8 ({error}). {advice}") from error
    except json.JSONDecodeError as error:
        comment = ", JSON has no comments" if text[error.pos:error.pos + 2].startswith(("//", "/*", "#")) else ""
        raise ForjaError(f"{path} is not valid JSON, line {error.lineno}, column {error.colno}: {error.msg}{comment}. {advice}") from error
    except (ValueError, RecursionError) as error:
        raise ForjaError(f"{path} is not valid JSON: {error}. {advice}") from error
    if not isinstance(value, dict):
        raise ForjaError(f"{path} holds a JSON {type(value).__name__}, not an object {{...}}. {advice}")
    return value


def render(config: Config) -> bytes:
    return (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def merge(current: Config, settings: Config) -> Config:
    """Apply a JSON merge patch (RFC 7396): objects merge, null removes a key, everything else replaces, lists too."""
    result = dict(current)
    for key, value in settings.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


def prune(current: Config, settings: Config) -> Config:
    """Remove the keys that `settings` names, whatever their values; an object goes when it is empty then."""
    result = dict(current)
    for key, value in settings.items():
        below = result.get(key)
        if not isinstance(value, dict):
            result.pop(key, None)
        elif isinstance(below, dict):
            result[key] = prune(below, value)
            if not result[key]:
                del result[key]
    return result


def fill(current: Config, defaults: Config, decided: Config) -> Config:
    """Add what is missing: keys that neither `current` nor `decided` has, and the missing elements of lists."""
    result = dict(current)
    for key, value in defaults.items():
        below, chosen = result.get(key), decided.get(key)
        if key in decided and not (isinstance(value, dict) and isinstance(chosen, dict)):
            continue
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = fill(below, value, chosen if isinstance(chosen, dict) else {})
        elif isinstance(value, list) and isinstance(below, list):
            result[key] = below + [item for item in value if item not in below]
        elif key not in result:
            result[key] = value
    return result


def drain(current: Config, defaults: Config) -> Config:
    """Remove what `fill` would have added: keys with the very value of `defaults`, and these elements of lists."""
    result = dict(current)
    for key, value in defaults.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            left: Any = drain(below, value)
        elif isinstance(value, list) and isinstance(below, list):
            left = [item for item in below if item not in value]
        else:
            left = None if same(below, value) else below
        if left:
            result[key] = left
        elif below:
            del result[key]
    return result


def same(one: Any, other: Any) -> bool:
    """Compare as a JSON reader does: Python's == would take 1 for true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def mask(value: Any) -> Any:
    """Replace the passwords that addresses carry, for everything that is shown."""
    if isinstance(value, str):
        return CREDENTIALS.sub("//***@", value)
    if isinstance(value, dict):
        return {key: mask(below) for key, below in value.items()}
    return [mask(below) for below in value] if isinstance(value, list) else value
