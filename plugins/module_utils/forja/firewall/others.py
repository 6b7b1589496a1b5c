# SPDX-License-Identifier: Apache-2.0
"""Other firewalls of the host that drop what a fence accepts: ufw and firewalld.

A packet must pass every table: an accept in the fence's table does not keep ufw or firewalld from dropping it.
Source: ufw(8) and its /etc/ufw/user.rules, firewall-cmd(1).
"""

import fnmatch
import ipaddress
import re
from typing import Iterable, List, NamedTuple, Optional

from ..host.files import HostFiles
from ..host.run import Run
from .fence import Fence, Source, parse_source


class UfwRule(NamedTuple):
    ports: str      # "any", "11434", "80,443" or "8000:9000"
    source: Optional[Source]  # None stands for any
    interface: str  # empty stands for any


def problems(files: HostFiles, run: Run, fence: Fence) -> List[str]:
    """Return a sentence with the command for each accepted source or interface that another active firewall drops."""
    return _ufw(files, fence) + _firewalld(files, run, fence)


def _ufw(files: HostFiles, fence: Fence) -> List[str]:
    enabled = re.search(r"^ENABLED=[\"']?yes", files.text("/etc/ufw/ufw.conf") or "", re.M | re.I)
    policy = re.search(r"^DEFAULT_INPUT_POLICY=[\"']?(\w+)", files.text("/etc/default/ufw") or "", re.M)
    if not enabled or (policy and policy.group(1).upper() == "ACCEPT"):
        return []
    rules = ufw_rules(files.text("/etc/ufw/user.rules", 1 << 20) or "") + ufw_rules(files.text("/etc/ufw/user6.rules", 1 << 20) or "")
    result = []
    for port in fence.ports:
        for source in fence.sources:
            if not any(_covers(rule, port) and not rule.interface and _within(source, rule.source) for rule in rules):
                commands = [f"ufw allow proto tcp from {network} to any port {port}" for network in networks(source)]
                result.append(_sentence("ufw", port, source.text, commands))
        for name in present(files.names("/sys/class/net"), fence.interfaces):
            if not any(_covers(rule, port) and rule.source is None and rule.interface in ("", name) for rule in rules):
                result.append(_sentence("ufw", port, name, [f"ufw allow in on {name} proto tcp to any port {port}"]))
    return result


def ufw_rules(text: str) -> List[UfwRule]:
    """Parse the tuples of ufw's user.rules that accept TCP; those for applications and outgoing traffic are left out."""
    rules = []
    for line in re.findall(r"^### tuple ### (.+)$", text, re.M):
        words = line.split()
        if len(words) < 7 or words[0].split("_")[0] not in ("allow", "limit") or words[1] not in ("any", "tcp"):
            continue
        direction = words[-1] if not words[-1].startswith("comment=") else words[-2]
        source = None if words[5] in ("0.0.0.0/0", "::/0") else parse_source(words[5])
        if direction.startswith("in") and words[4] == "any" and (source or words[5] in ("0.0.0.0/0", "::/0")):
            rules.append(UfwRule(words[2], source, direction[3:]))
    return rules


def _firewalld(files: HostFiles, run: Run, fence: Fence) -> List[str]:
    # The interfaces of Docker are in a zone of their own that Docker makes and that accepts.
    if not fence.sources or not files.exists("/usr/bin/firewall-cmd") or run(["firewall-cmd", "--state"]).rc != 0:
        return []
    result = []
    for port in fence.ports:
        if run(["firewall-cmd", f"--query-port={port}/tcp"]).rc == 0:
            continue
        for source in fence.sources:
            rules = [f'rule family="ipv{source.version}" source address="{network}" port port="{port}" protocol="tcp" accept'
                     for network in networks(source)]
            missing = [rule for rule in rules if run(["firewall-cmd", f"--query-rich-rule={rule}"]).rc != 0]
            if missing:
                commands = [f"firewall-cmd --permanent --add-rich-rule='{rule}'" for rule in missing] + ["firewall-cmd --reload"]
                result.append(_sentence("firewalld", port, source.text, commands))
    return result


def present(names: Iterable[str], patterns: Iterable[str]) -> List[str]:
    """Return the names that match one of the patterns, of which only a * at the end has a meaning."""
    wanted = [pattern.replace("[", "[[]").replace("?", "[?]") for pattern in patterns]
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]


def networks(source: Source) -> List[str]:
    """Return the networks that make up a source: firewalls other than nftables know no ranges."""
    kind = ipaddress.IPv6Address if source.version == 6 else ipaddress.IPv4Address
    parts = ipaddress.summarize_address_range(kind(source.first), kind(source.last))
    return [str(part.network_address) if part.num_addresses == 1 else str(part) for part in parts]


def _sentence(firewall: str, port: int, who: str, commands: List[str]) -> str:
    return f"{firewall} drops port {port} for {who}, which the fence accepts. To open it there too: {' && '.join(commands)}"


def _covers(rule: UfwRule, port: int) -> bool:
    if rule.ports == "any":
        return True
    ranges = [part.split(":") for part in rule.ports.split(",")]
    return any(ends[0].isdigit() and ends[-1].isdigit() and int(ends[0]) <= port <= int(ends[-1]) for ends in ranges)


def _within(inner: Source, outer: Optional[Source]) -> bool:
    return outer is None or (inner.version == outer.version and outer.first <= inner.first and inner.last <= outer.last)

