# SPDX-License-Identifier: Apache-2.0
"""Read what there is of Open WebUI on a host, and refuse what cannot work before anything is changed."""

import ipaddress
import os
from typing import Any, Dict, List, NamedTuple, Tuple

from ..facts.listeners import Listener
from ..host.errors import ForjaError
from ..host.run import Run
from .container import Container, Docker
from .database import NAME, Database, read
from .upgrade import PENDING, PREVIOUS

# File systems of other machines, as `stat --file-system` names them: SQLite's locks do not hold there.
REMOTE = ("nfs", "cifs", "smb", "smb2", "afs", "ceph", "v9fs", "lustre", "gpfs", "ncp", "coda")
WIDE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  (addresses that are compared, and how this host reaches them)
# Older engines let other hosts of the network reach ports that are published on loopback: moby 45610.
CLOSED_LOOPBACK = 28


class Site(NamedTuple):
    """`engine` is the version of the Docker engine, empty where none answers. `folder` holds the data."""

    engine: str
    folder: str
    container: Container
    previous: bool
    pending: bool  # an upgrade was interrupted
    database: Database
    image_present: bool
    volume: bool


def gather(docker: Docker, name: str, volume: str, image: str, backups: str) -> Site:
    server = docker.server()
    if not server:
        return Site("", "", Container(), False, False, Database(), False, False)
    known = docker.volume_folder(volume)
    folder = known or os.path.join(str(server.get("DockerRootDir") or "/var/lib/docker"), "volumes", volume, "_data")
    previous = docker.container(name + PREVIOUS).exists
    pending = previous or os.path.exists(os.path.join(backups, PENDING))
    return Site(str(server["ServerVersion"]), folder, docker.container(name), previous, pending,
                read(os.path.join(folder, NAME)), bool(image) and docker.has_image(image), bool(known))


def parse_address(text: str) -> Tuple[str, int]:
    """Parse `address:port`; a port alone is one on loopback."""
    address, _, port = text.rpartition(":")
    address = address.strip("[]") or "127.0.0.1"
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ForjaError(f"open_webui_listen: {text!r} is not valid; use address:port, such as 127.0.0.1:3000.")
    try:
        return str(ipaddress.ip_address(address)), int(port)
    except ValueError:
        raise ForjaError(f"open_webui_listen: {address!r} is not an IP address; use 127.0.0.1, 0.0.0.0 or one of the host's own.") from None


def fence_of(address: str, engine: str) -> str:
    """Return what the published port needs: a fence for all, for loopback, or none. Without an engine its version counts as old."""
    if not ipaddress.ip_address(address).is_loopback:
        return "all"
    major = engine.partition(".")[0]
    return "" if major.isdigit() and int(major) >= CLOSED_LOOPBACK else "loopback"


def refuse_remote(run: Run, folder: str) -> None:
    """Refuse a folder on a network file system; the nearest one that exists counts."""
    while folder not in ("", "/") and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    rc, out, _ = run(["stat", "--file-system", "--format=%T", folder or "/"])
    kind = out.strip()
    if rc == 0 and kind in REMOTE:
        raise ForjaError(f"The data of Open WebUI would be in {folder}, which is on {kind}. SQLite is not safe on a network file system: "
                         "move Docker's data folder, or the volume, to a local disk. Nothing was changed.")


def refuse_strangers(site: Site, address: str, port: int, found: List[Listener]) -> None:
    """Refuse a port that another program has. Docker's own proxy has it where the container is published already."""
    if site.container.running:
        return
    mine = ipaddress.ip_address(address)
    for listener in found:
        taken = listener.address in WIDE or address in WIDE or ipaddress.ip_address(listener.address) == mine
        if taken:
            who = listener.command or f"a process of {listener.user}"
            raise ForjaError(f"Port {port} of {listener.address} is taken by {who}{f' ({listener.unit})' if listener.unit else ''}. Stop "
                             "it, or set open_webui_listen to another port. Nothing was changed.")


def result(site: Site, address: str, port: int, image: str) -> Dict[str, Any]:
    shown = f"[{address}]" if ":" in address else address
    fence = fence_of(address, site.engine)
    return {
        "engine": bool(site.engine), "engine_version": site.engine, "folder": site.folder, "address": address, "port": port,
        "publish": f"{shown}:{port}:8080",
        "url": f"http://{WIDE.get(address, shown)}:{port}",
        "endpoint": f"http://{shown}:{port}", "fence": fence, "fenced": bool(fence),
        "image_present": site.image_present, "volume": site.volume, "exists": site.container.exists or site.previous,
        "running": site.container.running,
        "image": site.container.image, "pending": site.pending,
        "first": not site.database.users, "new_image": site.container.image != image, "users": site.database.users,
    }
