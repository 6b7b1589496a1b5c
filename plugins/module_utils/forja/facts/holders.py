# SPDX-License-Identifier: Apache-2.0
"""Who has a GPU open: processes by their open files, and the systemd unit or container they belong to."""

import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Set

from ..host.files import HostFiles

SHARED = "shared"  # the key of nodes that belong to no single GPU: their holders keep the driver loaded all the same
_JETSON_NODES = "nvhost-([a-z]+-)?gpu|nvgpu/.*"
_SHARED_NODES = re.compile(fr"/dev/(nvidiactl|nvidia-uvm|nvidia-modeset|nvidia-nvswitch.*|nvidia-caps/.*|kfd|dxg|{_JETSON_NODES})$")
_CONTAINERS = (
    ("docker", re.compile(r"docker[-/]([0-9a-f]{12})[0-9a-f]*")),
    ("containerd", re.compile(r"cri-containerd[-:]([0-9a-f]{12})[0-9a-f]*")),
    ("cri-o", re.compile(r"crio-([0-9a-f]{12})[0-9a-f]*")),
    ("podman", re.compile(r"libpod-([0-9a-f]{12})[0-9a-f]*")),
    ("kubernetes", re.compile(r"kubepods[^ ]*?/([0-9a-f]{12})[0-9a-f]{52}")),
    ("lxc", re.compile(r"lxc(?:\.payload)?[./]([^/.]+)")),
)
_UNIT = re.compile(r"/([^/]+\.(?:service|scope))(?:/|$)")


class Holders(NamedTuple):
    """By PCI address (or "shared"): the processes. `hidden` counts processes whose open files we may not see."""

    by_gpu: Dict[str, List[Dict[str, Any]]]
    hidden: int
    finished: bool


def find(files: HostFiles, gpus: List[Dict[str, Any]], seconds: float = 2.0) -> Holders:
    """Walk over /proc/*/fd once, for at most `seconds`.

    Intel's integrated graphics is left out: every window of a desktop holds it, and no role asks.
    """
    owner: Dict[str, str] = {}
    by_gpu: Dict[str, List[Dict[str, Any]]] = {}
    for gpu in gpus:
        if gpu["address"] and not (gpu["integrated"] and gpu["vendor"] == "intel"):
            by_gpu[gpu["address"]] = []
            for node in gpu["device_nodes"]:
                owner[node] = gpu["address"]
    by_gpu[SHARED] = []
    before = len(files.denied)
    end = time.time() + seconds
    for pid in files.names("/proc"):
        if not pid.isdigit():
            continue
        if time.time() > end:
            return Holders(by_gpu, len(files.denied) - before, False)
        nodes = _open_nodes(files, pid, owner)
        if nodes:
            record = process(files, pid)
            for place in sorted({owner.get(node, SHARED) for node in nodes}):
                mine = sorted(node for node in nodes if owner.get(node, SHARED) == place)
                by_gpu[place].append(dict(record, nodes=mine))
    for records in by_gpu.values():
        records.sort(key=lambda found: int(found["pid"]))
    return Holders(by_gpu, len(files.denied) - before, True)


def as_seen_here(cgroup: str, init: str) -> str:
    """The text of /proc/PID/cgroup without what leads to this very host, where that is a container with a systemd of its own.

    `init` is the text for process 1, whose group is init.scope at the root of what systemd manages.
    """
    for line in init.splitlines():
        path = line.partition(":")[2].partition(":")[2]
        if path.endswith("/init.scope") and path != "/init.scope":
            return cgroup.replace(path[: -len("/init.scope")], "")
    return cgroup


def unit_of(cgroup: str) -> Optional[str]:
    """The innermost systemd unit in the text of /proc/PID/cgroup: ollama.service, or the scope of a login or container."""
    units = _UNIT.findall(cgroup)
    services = [unit for unit in units if unit.endswith(".service") and not re.match(r"user@\d+\.service$", unit)]
    return str((services or units)[-1]) if units else None


def container_of(cgroup: str) -> Optional[str]:
    """Runtime and short id of the container in the text of /proc/PID/cgroup, such as docker:0123456789ab."""
    for runtime, pattern in _CONTAINERS:
        match = pattern.search(cgroup)
        if match:
            return f"{runtime}:{match.group(1)}"
    return None


def _open_nodes(files: HostFiles, pid: str, owner: Dict[str, str]) -> Set[str]:
    base = f"/proc/{pid}/fd"
    found: Set[str] = set()
    for name in files.names(base):
        target = files.link(base + "/" + name)
        if target and target.startswith("/dev/") and (target in owner or _SHARED_NODES.match(target)):
            found.add(target)
    return found


def process(files: HostFiles, pid: str) -> Dict[str, Any]:
    """Who a process is; the fields of one that has ended are None."""
    cgroup = as_seen_here(files.text(f"/proc/{pid}/cgroup", 8192) or "", files.text("/proc/1/cgroup", 8192) or "")
    arguments = (files.text(f"/proc/{pid}/cmdline", 4096) or "").split("\n")
    # Further arguments may hold passwords; a script's path says enough.
    command = " ".join(arguments[:2] if len(arguments) > 1 and arguments[1].startswith("/") else arguments[:1])
    return {
        "pid": int(pid),
        "name": files.word(f"/proc/{pid}/comm"),
        "command": command.strip()[:200] or None,
        "unit": unit_of(cgroup),
        "container": container_of(cgroup),
    }
