# SPDX-License-Identifier: Apache-2.0
"""Who listens on a TCP port: address, process, user, command and systemd unit, from /proc.

Source: Linux, Documentation/networking/proc_net_tcp.rst; the addresses there are in the byte order of the machine.
"""

import ipaddress
import pwd
import re
import sys
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ..host.files import HostFiles
from .holders import process

LISTEN = "0A"


class Listener(NamedTuple):
    """A listening socket. `pid` is None for one of the kernel or of a process in another network or PID namespace."""

    address: str
    pid: Optional[int]
    user: str
    command: str
    unit: Optional[str]


def listeners(files: HostFiles, port: int) -> List[Listener]:
    """Return the sockets that listen on a port, one for each address."""
    sockets = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        sockets.update(parse(files.text(name, 1 << 22) or "", port))
    owners = _owners(files, {inode for inode, _ in sockets.values()}) if sockets else {}
    found = []
    for address, (inode, uid) in sorted(sockets.items()):
        pid = owners.get(inode)
        seen = process(files, str(pid)) if pid is not None else {}
        command = (files.text(f"/proc/{pid}/cmdline", 400) or "").replace("\n", " ").strip() if pid is not None else ""
        found.append(Listener(address, pid, _user(uid), command, seen.get("unit")))
    return found


def parse(text: str, port: int) -> Dict[str, Tuple[str, int]]:
    """Parse a table of /proc/net: address -> inode and uid of the sockets that listen on the port."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        match = re.match(r"([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$", words[1]) if len(words) > 9 else None
        if match and words[3] == LISTEN and int(match.group(2), 16) == port:
            found[_address(match.group(1))] = (words[9], int(words[7]))
    return found


def collides(wanted: str, other: str) -> bool:
    """Whether a socket on one address keeps another from listening on the same port at the other. A wildcard counts for both versions."""
    first, second = ipaddress.ip_address(wanted), ipaddress.ip_address(other)
    return first.is_unspecified or second.is_unspecified or first == second


def _address(text: str) -> str:
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _owners(files: HostFiles, inodes: Set[str]) -> Dict[str, int]:
    owners: Dict[str, int] = {}
    for pid in files.names("/proc"):
        for name in files.names(f"/proc/{pid}/fd") if pid.isdigit() else ():
            match = re.match(r"socket:\[(\d+)\]$", files.link(f"/proc/{pid}/fd/{name}") or "")
            if match and match.group(1) in inodes:
                owners.setdefault(match.group(1), int(pid))
        if len(owners) == len(inodes):
            break
    return owners


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
