# SPDX-License-Identifier: Apache-2.0
"""Plan which clients of GPUs must stop for a change, and record what was stopped. Pure, except for the record.

clients/control.py talks to systemd, Docker and CRI.
"""

import fnmatch
import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from ..mig.blockers import describe

NOTE = "/var/lib/forja/gpu-clients.json"
VERSION = 1
ALWAYS, WHEN_BLOCKING = "always", "when_blocking"
UNIT, DOCKER, CRI = "unit", "docker", "cri"


class Unit(NamedTuple):
    """A unit as systemd knows it."""

    name: str
    running: bool
    # What systemd stops with it, and what would start it again (its socket, its timer).
    dependants: Tuple[str, ...] = ()
    triggers: Tuple[str, ...] = ()


class Container(NamedTuple):
    """A running container with the value of its label. One of `docker run --rm` does not last: it is gone once it stops."""

    kind: str
    id: str
    name: str
    label: str = ""
    lasts: bool = True


class Known(NamedTuple):
    """A client that a role knows: a unit (or a pattern for units), or a CRI container by its name."""

    kind: str
    name: str
    when: str


class Client(NamedTuple):
    """Something to stop, or stopped. A unit's id is its name; a CRI container comes back under another id."""

    kind: str
    name: str
    id: str

    def describe(self) -> str:
        return self.name if self.kind == UNIT else f"container {self.name} ({self.id[:12]})"


class Stop(NamedTuple):
    client: Client
    why: str


class Host(NamedTuple):
    """What runs. `units` has the known ones and all that are tied to them."""

    units: Dict[str, Unit]
    containers: Tuple[Container, ...]


def matching(known: Known, host: Host) -> List[str]:
    """List the running units of a known client."""
    return [name for name, unit in sorted(host.units.items()) if unit.running and fnmatch.fnmatchcase(name, known.name)]


def plan_stop(host: Host, known: Sequence[Known], blockers: Sequence[Dict[str, Any]]) -> List[Stop]:
    """Plan what to stop, in this order. Raises ForjaError, with the blockers that are no clients: then nothing may be stopped.

    Labelled containers are first. They stop when they block, or always where their label says so. The name of a unit as the label's
    value means that this unit runs the container and is stopped instead.
    """
    reasons: Dict[Client, str] = {}
    foreign = []
    for record in blockers:
        client = _client_of(record, host, known)
        if client is None:
            foreign.append(record)
        else:
            reasons.setdefault(client, f"it uses GPU {record['gpu']}")
    if foreign:
        raise ForjaError(refusal(foreign))
    for container in host.containers:
        client = Client(container.kind, container.name, container.id)
        if container.kind == DOCKER and container.label == ALWAYS:
            reasons.setdefault(client, "its label says always")
        if client in reasons and not container.lasts:
            raise ForjaError(
                f"{client.describe()} was started with --rm: once stopped it is gone and cannot be started again. Nothing was stopped or "
                "changed. Stop it yourself, create it again without --rm, or, where a unit runs it, name that unit in its label."
            )
    for known_client in known:
        if known_client.when == ALWAYS:
            for client in _clients(known_client, host):
                reasons.setdefault(client, "it must see the new GPUs")

    def rank(client: Client) -> int:
        if client.kind == DOCKER:
            return -1
        return next((place for place, known_client in enumerate(known) if client in _clients(known_client, host)), len(known))

    steps: List[Stop] = []
    for client in sorted(reasons, key=lambda client: (rank(client), client)):
        tied = _tied(client.name, host) if client.kind == UNIT else []
        for name, why in tied:
            if name not in [step.client.id for step in steps]:
                tie = Client(UNIT, name, name)
                steps.append(Stop(tie, reasons.get(tie, why)))
        if client not in [step.client for step in steps]:
            steps.append(Stop(client, reasons[client]))
    return steps


def _client_of(record: Dict[str, Any], host: Host, known: Sequence[Known]) -> Optional[Client]:
    runtime, _, short = (record.get("container") or "").partition(":")
    if short:
        for container in host.containers:
            if not container.id.startswith(short):
                continue
            unit = host.units.get(container.label)
            if unit and unit.running:
                return Client(UNIT, unit.name, unit.name)
            if container.kind == DOCKER or any(known_client.kind == CRI and known_client.name == container.name for known_client in known):
                return Client(container.kind, container.name, container.id)
    # Of a process in a container the unit may be one of the container's own systemd; but Podman's units hold their containers.
    name = "" if short and runtime != "podman" else record.get("unit") or ""
    if any(known_client.kind == UNIT and name in matching(known_client, host) for known_client in known):
        return Client(UNIT, name, name)
    return None


def _clients(known_client: Known, host: Host) -> List[Client]:
    if known_client.kind == UNIT:
        return [Client(UNIT, name, name) for name in matching(known_client, host)]
    return [Client(CRI, each.name, each.id) for each in host.containers if each.kind == CRI and each.name == known_client.name]


def _tied(name: str, host: Host) -> List[Tuple[str, str]]:
    """List running units to stop before `name`, the furthest first: what starts it again, and what systemd stops with it."""
    found: List[Tuple[str, str]] = []
    todo, seen = [name], {name}
    while todo:
        unit = host.units[todo.pop(0)]
        for others, why in ((unit.dependants, f"systemd stops it with {unit.name}"), (unit.triggers, f"it would start {unit.name} again")):
            for other in others:
                if other not in seen and other in host.units and host.units[other].running:
                    seen.add(other)
                    todo.append(other)
                    found.insert(0, (other, why))
    return found


def refusal(foreign: Sequence[Dict[str, Any]]) -> str:
    listed = "\n".join("- " + describe(record) for record in foreign)
    return (
        f"Processes that are no clients block the change:\n{listed}\nNothing was stopped or changed. End them, or name their units among "
        "the clients, or give their containers the label."
    )


# The record


def read_note(path: str, boot_id: str) -> Optional[List[Client]]:
    """Read what an earlier run stopped and has not started yet, in the order of stopping; None when no change is under way.

    Units of an earlier boot are left out: since then systemd has started what is to run. Containers stay, which Docker does not start
    again once they were stopped by hand.
    """
    raw = atomic_file.read(path)
    if raw is None:
        return None
    try:
        note = json.loads(raw.decode("utf-8"))
        if note["version"] != VERSION:
            raise ValueError(f"version {note['version']!r}")
        clients = [Client(*(str(part) for part in (record["kind"], record["name"], record["id"]))) for record in note["clients"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ForjaError(
            f"{path}, the record of what was stopped, is not valid ({error}). Start what it names yourself, then remove it."
        ) from error
    return [client for client in clients if client.kind == DOCKER or note.get("boot_id") == boot_id]


def write_note(path: str, boot_id: str, clients: Sequence[Client]) -> None:
    """Put the record on the disk before anything is stopped, so that no interrupted run leaves a client stopped forever."""
    note = {"version": VERSION, "boot_id": boot_id, "clients": [client._asdict() for client in clients]}
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755)
    atomic_file.replace(path, (json.dumps(note, indent=1, sort_keys=True) + "\n").encode("utf-8"), 0o600)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def merged(noted: Sequence[Client], stops: Sequence[Stop]) -> List[Client]:
    """Merge the record: first what is stopped already, then what is stopped now."""
    now = [stop.client for stop in stops]
    return [client for client in noted if client not in now] + now


def order_of_start(noted: Sequence[Client]) -> List[Client]:
    """Return the reverse order of stopping, with containers of pods last: kubelet starts them, and they are only waited for."""
    last = [client for client in noted if client.kind == CRI]
    return [client for client in reversed(noted) if client.kind != CRI] + last
