# SPDX-License-Identifier: Apache-2.0
"""A fence: a table of nftables that lets only this host, some interfaces and some sources reach a TCP port.

Sources: nft(8); libnftables of Debian 12 (1.0.6) and 13 (1.1.3) for how `nft list table` prints a rule.
"""

import ipaddress
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..host.errors import ForjaError

HEADER = "#!/usr/sbin/nft -f\n# Managed by Forja: changes made here are lost.\n"
FORMS = "an address (192.0.2.7, 2001:db8::7), a network (192.0.2.0/24, 2001:db8::/64) or a range (192.0.2.10-192.0.2.20)"
# The kernel's IFNAMSIZ is 16 with the closing NUL.
_INTERFACE = re.compile(r"(?=.{1,15}\Z)[A-Za-z0-9_.:@-]*\*?\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,23}\Z")


class Source(NamedTuple):
    """A range of addresses: the text that nft prints for it, its IP version and its ends."""

    text: str
    version: int
    first: int
    last: int


# Where a fence stands. A port that a container publishes is rewritten before the hook input and never passes it, so it is matched where
# the packet arrives, by the port that was dialled (conntrack's rewriting has the priority -100). With `loopback` only what reaches
# 127.0.0.0/8 from outside is dropped, which engines before 28 let pass to ports published there.
HOOKS = {
    "input": ("input", "type filter hook input priority filter - 5; policy accept;", "tcp dport {} jump guard"),
    "published": ("prerouting", "type filter hook prerouting priority mangle; policy accept;",
                  "tcp dport {} fib daddr type local jump guard"),
    "loopback": ("prerouting", "type filter hook prerouting priority mangle; policy accept;",
                 "ip daddr 127.0.0.0/8 tcp dport {} jump guard"),
}


class Fence(NamedTuple):
    """`at` is a key of HOOKS."""

    name: str
    ports: Tuple[int, ...]
    interfaces: Tuple[str, ...]
    sources: Tuple[Source, ...]
    at: str = "input"

    @property
    def table(self) -> str:
        return f"forja_{self.name}"


def parse_source(text: str) -> Optional[Source]:
    """Parse an address, network or range; None where nft would not take it."""
    first, dash, last = text.strip().partition("-")
    if "%" in text:
        return None  # a zone, which newer Pythons take
    try:
        if dash:
            low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
            if low.version != high.version or int(low) >= int(high):
                return None
            return Source(f"{low}-{high}", low.version, int(low), int(high))
        _, slash, prefix = first.partition("/")
        if slash and not re.match(r"\d{1,3}\Z", prefix):
            return None  # nft knows no netmasks
        network = ipaddress.ip_network(first, strict=False)
    except ValueError:
        return None
    alone = network.num_addresses == 1
    return Source(str(network.network_address) if alone else str(network), network.version, int(network[0]), int(network[-1]))


def read_fence(name: str, ports: Sequence[int], interfaces: Sequence[str], sources: Sequence[str], where: str = "",
               at: str = "input") -> Fence:
    """Check the entries. ForjaError names each wrong one; `where` begins the names of the options, such as `ollama_allowed_`."""
    wrong = [] if _NAME.match(name) else [f"The fence's name {name!r} is not valid; use up to 24 of a-z, 0-9 and _, first a letter."]
    wrong += [f"The port {port} is not between 1 and 65535." for port in ports if not 0 < port < 65536]
    for interface in interfaces:
        if not interface or not _INTERFACE.match(interface):
            wrong.append(f"{where}interfaces: {interface!r} is not the name of a network interface; use at most 15 letters, digits and "
                         "_.:@-, with an optional * at the end.")
    parsed = [(text, parse_source(text)) for text in sources]
    wrong += [f"{where}sources: {text!r} is not valid; use {FORMS}." for text, source in parsed if source is None]
    if wrong:
        raise ForjaError(" ".join(wrong))
    return Fence(name, tuple(ports), tuple(interfaces), tuple(source for _, source in parsed if source), at)


def chains(fence: Fence) -> List[List[str]]:
    """Return the two chains, each a list of lines as nft prints them without counters and quotes: the hook first, then the guard."""
    ports = str(fence.ports[0]) if len(fence.ports) == 1 else "{{ {} }}".format(", ".join(str(port) for port in sorted(fence.ports)))
    guard = ["iif lo accept"]
    guard += [f"iifname {name} accept" if name != "*" else "accept" for name in fence.interfaces]
    guard += [f"{'ip6' if source.version == 6 else 'ip'} saddr {source.text} accept" for source in fence.sources]
    _, hook, match = HOOKS[fence.at]
    return [[hook, match.format(ports)], [*guard, "counter drop"]]


def render(fence: Fence) -> str:
    """Render the file for `nft -f`. It replaces the table in one transaction and touches no other table."""
    lines = [f"table inet {fence.table}", f"delete table inet {fence.table}", f"table inet {fence.table} {{"]
    for name, rules in zip((HOOKS[fence.at][0], "guard"), chains(fence)):
        lines += [f"    chain {name} {{", *("        " + _quoted(rule) for rule in rules), "    }"]
    return HEADER + "\n".join([*lines, "}"]) + "\n"


def delete_table(table: str) -> str:
    """Return the commands that remove the table. Naming it first makes them succeed where it does not exist."""
    return f"table inet {table}\ndelete table inet {table}\n"


def kernel_chains(text: str) -> List[List[str]]:
    """Parse what `nft list table` prints, in the form of `chains`, sorted as there."""
    found: List[List[str]] = []
    names: List[str] = []
    for line in (raw.strip() for raw in text.splitlines()):
        header = re.match(r"chain (\S+) \{", line)
        if header:
            names.append(header.group(1))
            found.append([])
        elif found and line not in ("}", ""):
            line = re.sub(r"counter packets \d+ bytes \d+", "counter", line.replace('"', ""))
            line = re.sub(r"priority -150\b", "priority mangle", line)
            found[-1].append(re.sub(r"priority -5\b", "priority filter - 5", line))
    return [rules for _, rules in sorted(zip(names, found), key=lambda item: item[0] == "guard")]


def _quoted(rule: str) -> str:
    return re.sub(r"^iifname (\S+)", r'iifname "\1"', rule)
