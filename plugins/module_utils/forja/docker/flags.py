# SPDX-License-Identifier: Apache-2.0
"""The command line of dockerd: what docker.service, a drop-in or /etc/default/docker set before daemon.json is read."""

import re
import shlex
from typing import Dict, Iterable, List, NamedTuple, Tuple

from ..host.errors import ForjaError
from .config import Config

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
SOCKET = "/run/docker.sock"


class Flag(NamedTuple):
    """A flag as it is written (`--log-driver`, `-H`), with its values in order; a switch without a value has none."""

    name: str
    values: Tuple[str, ...]


Flags = Dict[str, Flag]


def environment(text: str) -> Dict[str, str]:
    """Parse an EnvironmentFile=."""
    result = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.match(r"\w+$", name):
            try:
                result[name] = " ".join(shlex.split(value))
            except ValueError:  # a quote that is not closed: systemd takes the text as it is
                result[name] = value
    return result


def expand(words: Iterable[str], variables: Dict[str, str]) -> List[str]:
    """Expand the words of an ExecStart= as systemd does: $NAME alone is split into words, ${NAME} is not."""
    result: List[str] = []
    for word in words:
        alone = re.match(r"\$(\w+)$", word)
        if alone:
            result += variables.get(alone.group(1), "").split()
        else:
            result.append(re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found.group(1), ""), word))
    return result


def parse_flags(argv: Iterable[str]) -> Flags:
    """Map the keys of daemon.json to the flags that set them on the command line."""
    result: Flags = {}
    key = ""
    for word in argv:
        value = []
        if word.startswith("--") and len(word) > 2:
            name, equals, text = word[2:].partition("=")
            written, value = "--" + name, [text] if equals else []
        elif word.startswith("-") and word[1:2] in LETTERS:
            name, written = LETTERS[word[1]], word[:2]
            value = [word[2:].lstrip("=")] if word[2:] else []
        else:  # the value of the flag before it; dockerd takes no other words
            if key:
                result[key] = Flag(result[key].name, result[key].values + (word,))
            key = ""
            continue
        key = KEY_OF_FLAG.get(name, name)
        result[key] = Flag(written, (result[key].values if key in result else ()) + tuple(value))
        key = "" if value else key
    return result


def refuse_conflicts(config: Config, flags: Flags, path: str) -> None:
    """Raise where a key is also a flag: the engine does not start then, even with the same value (moby issue 21559 and others)."""
    keys = set(config) - MERGED_BY_THE_ENGINE
    proxies = config.get("proxies")
    keys |= set(proxies) if isinstance(proxies, dict) else set()
    both = sorted(keys & set(flags))
    if both:
        pairs = ", ".join(f"{key} is set both in {path} and by the flag {flags[key].name} of docker.service" for key in both)
        raise ForjaError(
            f"{pairs}. The engine would not start. Remove the flag (`systemctl cat docker.service` and /etc/default/docker show where "
            "it is set) or the setting. Nothing was changed."
        )


def endpoints(config: Config, flags: Flags) -> List[str]:
    """Return the addresses on which the engine listens, sockets that systemd hands over (fd://) as unix:///run/docker.sock."""
    hosts = config.get("hosts")
    listed = list(flags["hosts"].values) if "hosts" in flags else [str(host) for host in hosts] if isinstance(hosts, list) else []
    return [f"unix://{SOCKET}" if host in ("fd://", "unix://") else host for host in listed] or [f"unix://{SOCKET}"]


def socket_of(config: Config, flags: Flags) -> str:
    """Return the socket to ask the engine on; empty where it listens on the network only."""
    return next((host[len("unix://"):] for host in endpoints(config, flags) if host.startswith("unix://")), "")
