# SPDX-License-Identifier: Apache-2.0
"""The programs that hold GPUs: which of them have to stop for a change, and what was stopped. Pure, but for the note.

Asking and ordering about systemd, Docker and CRI is client_control.py.
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
    # What goes down with it, and what would start it again behind our back (its socket, its timer).
    dependants: Tuple[str, ...] = ()
    triggers: Tuple[str, ...] = ()


class Container(NamedTuple):
    """A running container; `label` is what it says about itself. One of `docker run --rm` does not last: it is gone once it stops."""

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

    def words(self) -> str:
        return self.name if self.kind == UNIT else f"container {self.name} ({self.id[:12]})"


class Stop(NamedTuple):
    client: Client
    why: str


class Host(NamedTuple):
    """What runs. `units` has the known ones and whatever is tied to them."""

    units: Dict[str, Unit]
    containers: Tuple[Container, ...]


def matching(known: Known, host: Host) -> List[str]:
    """Names of the running units of a known client."""
    return [name for name, unit in sorted(host.units.items()) if unit.running and fnmatch.fnmatchcase(name, known.name)]


def plan_stop(host: Host, known: Sequence[Known], blockers: Sequence[Dict[str, Any]]) -> List[Stop]:
    """What to stop, in this order. ForjaError names the blockers that nobody here knows: then nothing may be stopped at all.

    Labelled containers go first. They stop when they are in the way, or always where their label says so; the name of a unit as the
    label's value means that the unit runs the container, and is what to stop.
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
                f"{client.words()} was started with --rm: once stopped it is gone, and nobody could start it again. Nothing was "
                "stopped or changed. Stop"
                " it yourself, make it anew without --rm, or where a unit runs it, let its label name that unit."
            )
    for one in known:
        if one.when == ALWAYS:
            for client in _clients(one, host):
                reasons.setdefault(client, "it has to see the GPUs anew")

    def rank(client: Client) -> int:
        if client.kind == DOCKER:
            return -1
        return next((place for place, one in enumerate(known) if client in _clients(one, host)), len(known))

    steps: List[Stop] = []
    for client in sorted(reasons, key=lambda one: (rank(one), one)):
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
            if container.kind == DOCKER or any(one.kind == CRI and one.name == container.name for one in known):
                return Client(container.kind, container.name, container.id)
    # Of a process in a container the unit may be one of the container's own systemd; but Podman's units hold their containers.
    name = "" if short and runtime != "podman" else record.get("unit") or ""
    if any(one.kind == UNIT and name in matching(one, host) for one in known):
        return Client(UNIT, name, name)
    return None


def _clients(one: Known, host: Host) -> List[Client]:
    if one.kind == UNIT:
        return [Client(UNIT, name, name) for name in matching(one, host)]
    return [Client(CRI, each.name, each.id) for each in host.containers if each.kind == CRI and each.name == one.name]


def _tied(name: str, host: Host) -> List[Tuple[str, str]]:
    """Running units that have to go before `name`, the furthest first: what starts it again, and what systemd stops with it."""
    found: List[Tuple[str, str]] = []
    todo, seen = [name], {name}
    while todo:
        unit = host.units[todo.pop(0)]
        for others, why in ((unit.dependants, f"it goes down with {unit.name}"), (unit.triggers, f"it would start {unit.name} again")):
            for other in others:
                if other not in seen and other in host.units and host.units[other].running:
                    seen.add(other)
                    todo.append(other)
                    found.insert(0, (other, why))
    return found


def refusal(foreign: Sequence[Dict[str, Any]]) -> str:
    listed = "\n".join("- " + describe(one) for one in foreign)
    return (
        f"These use what would change, and none of them is a client that may be stopped here:\n{listed}\nNothing was stopped or changed."
        " End them, or name their units among the clients, or give their containers the label."
    )


# The note


def read_note(path: str, boot_id: str) -> Optional[List[Client]]:
    """What an earlier run stopped and has not started yet, in the order of stopping; None when no change is under way.

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
        clients = [Client(*(str(part) for part in (one["kind"], one["name"], one["id"]))) for one in note["clients"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ForjaError(
            f"{path}, the note of what was stopped, cannot be understood ({error}). Start what it names yourself, then remove it."
        ) from error
    return [one for one in clients if one.kind == DOCKER or note.get("boot_id") == boot_id]


def write_note(path: str, boot_id: str, clients: Sequence[Client]) -> None:
    """On the disk before anything is stopped: a run that is killed, or a host that loses power, leaves nothing stopped for ever."""
    note = {"version": VERSION, "boot_id": boot_id, "clients": [one._asdict() for one in clients]}
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
    """What the note has to say: first what is stopped already, then what goes now."""
    now = [stop.client for stop in stops]
    return [one for one in noted if one not in now] + now


def order_of_start(noted: Sequence[Client]) -> List[Client]:
    """The reverse of stopping, but containers of pods last: kubelet starts them, and we only wait for them."""
    last = [one for one in noted if one.kind == CRI]
    return [one for one in reversed(noted) if one.kind != CRI] + last
