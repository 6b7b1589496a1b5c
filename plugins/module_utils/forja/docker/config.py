# SPDX-License-Identifier: Apache-2.0
"""The engine's configuration file daemon.json: read, merge, compare, show. Pure; who reads and writes is docker_engine."""

import json
import re
import shlex
from typing import Any, Dict, Iterable, List, NamedTuple, NoReturn, Optional

from ..host.errors import ForjaError

Config = Dict[str, Any]

# Where the key in daemon.json is not the long name of the flag (cmd/dockerd/config.go of the engine: "named options").
KEY_OF_FLAG = {
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "cdi-spec-dir": "cdi-spec-dirs",
    "cluster-store-opt": "cluster-store-opts",
    "default-address-pool": "default-address-pools",
    "default-network-opt": "default-network-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "feature": "features",
    "graph": "data-root",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
}
LETTERS = {"D": "debug", "G": "group", "H": "host", "b": "bridge", "g": "graph", "l": "log-level", "p": "pidfile", "s": "storage-driver"}
# The one key that the engine itself merges from flag and file.
MERGED_BY_THE_ENGINE = {"runtimes"}
# What stands between // and @ in an address is a user's name and password.
CREDENTIALS = re.compile(r"//[^\s\"]*@")


class Plan(NamedTuple):
    """What daemon.json says, what it will say, and the steps from one to the other (none: they mean the same)."""

    before: Config
    after: Config
    steps: List[str]


def parse(content: Optional[bytes], path: str) -> Config:
    """The object in the file; a missing and an empty file both stand for no settings, as they do for the engine."""

    def no_number(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a number that JSON knows")

    what_to_do = "The file is kept as it is: repair it or move it away, then run again."
    try:
        text = (content or b"").decode("utf-8-sig")
        if not text.strip():
            return {}
        value = json.loads(text, parse_constant=no_number)
        render(value)
    except UnicodeError as error:
        raise ForjaError(f"{path} is not text in UTF-8 ({error}). {what_to_do}") from error
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}, column {error.colno}: " if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ForjaError(f"{path} is not valid JSON, {where}{reason}. {what_to_do}") from error
    if not isinstance(value, dict):
        raise ForjaError(f"{path} holds a JSON {type(value).__name__}, not an object {{...}}. {what_to_do}")
    return value


def render(config: Config) -> bytes:
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def merge(current: Config, settings: Config) -> Config:
    """A JSON merge patch (RFC 7396): objects merge, null removes a key, everything else, lists too, replaces."""
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
    """Without the keys that `settings` names, whatever their values; an object goes when nothing is left in it."""
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


def same(one: Any, other: Any) -> bool:
    """Equal to a JSON reader: Python's == would take 1 for true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def plan(before: Config, settings: Config, state: str, path: str) -> Plan:
    after = merge(before, settings) if state == "present" else prune(before, settings)
    if same(before, after):
        return Plan(before, before, [])
    touched = [key for key in sorted(set(before) | set(after)) if not same(before.get(key), after.get(key))]
    emptied = state == "absent" and not after
    return Plan(before, after, [f"remove {path}, nothing is left in it" if emptied else f"write {path}: {', '.join(touched)}"])


def mask(value: Any) -> Any:
    """The same value without the passwords that addresses carry; for everything that is shown."""
    if isinstance(value, str):
        return CREDENTIALS.sub("//***@", value)
    if isinstance(value, dict):
        return {key: mask(below) for key, below in value.items()}
    return [mask(below) for below in value] if isinstance(value, list) else value


def expand(words: Iterable[str], environment: Dict[str, str]) -> List[str]:
    """The words of an ExecStart= as systemd passes them: $NAME alone is split into words, ${NAME} is not."""
    result: List[str] = []
    for word in words:
        alone = re.match(r"\$(\w+)$", word)
        if alone:
            result += environment.get(alone.group(1), "").split()
        else:
            result.append(re.sub(r"\$\{(\w+)\}", lambda found: environment.get(found.group(1), ""), word))
    return result


def environment(text: str) -> Dict[str, str]:
    """The variables of an EnvironmentFile=."""
    result = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.match(r"\w+$", name):
            try:
                result[name] = " ".join(shlex.split(value))
            except ValueError:  # a quote that is not closed: systemd takes the text as it stands
                result[name] = value
    return result


def keys_of_flags(argv: Iterable[str]) -> Dict[str, str]:
    """Key in daemon.json -> the flag that sets it on the command line."""
    result = {}
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            flag = word[2:].partition("=")[0]
            result[KEY_OF_FLAG.get(flag, flag)] = "--" + flag
        elif word.startswith("-") and word[1:2] in LETTERS:
            flag = LETTERS[word[1]]
            result[KEY_OF_FLAG.get(flag, flag)] = word[:2]
    return result


def refuse_conflicts(config: Config, flags: Dict[str, str], path: str) -> None:
    """The engine does not start when a key is also a flag, even with the same value (moby issue 21559 and many others)."""
    keys = set(config) - MERGED_BY_THE_ENGINE
    proxies = config.get("proxies")
    keys |= set(proxies) if isinstance(proxies, dict) else set()
    both = sorted(keys & set(flags))
    if both:
        pairs = ", ".join(f"{key} is set both in {path} and by the flag {flags[key]} of docker.service" for key in both)
        raise ForjaError(
            f"{pairs}. The engine would not start. Remove the flag (`systemctl cat docker.service` and /etc/default/docker show where "
            "it stands) or the setting. Nothing was changed."
        )
