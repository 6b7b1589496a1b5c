# SPDX-License-Identifier: Apache-2.0
"""Replace the container with a way back: the previous one is kept beside, with a backup of the database, until the new one works."""

import contextlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from typing import Any, Dict, List, NamedTuple

from ..host import atomic
from ..host.errors import ForjaError
from . import database
from .container import Container, Docker

PREVIOUS = "-previous"
PENDING = "pending.json"
STOP_SECONDS = 120
# What is kept beside the database; caches of models and of pip are not.
FILES = ("uploads", "vector_db", "static")


class Place(NamedTuple):
    """Where things are: the container, the folder of its data, the env file of its secrets, and the folder of the backups."""

    name: str
    folder: str
    secrets: str
    backups: str

    @property
    def database(self) -> str:
        return os.path.join(self.folder, database.NAME)

    @property
    def pending(self) -> str:
        return os.path.join(self.backups, PENDING)


class State(NamedTuple):
    """`pending` is what an upgrade that has not ended left: {"backup": path or ""}; None where there is none."""

    container: Container
    previous: Container
    has_database: bool
    pending: Any


class Step(NamedTuple):
    action: str
    text: str


def gather(docker: Docker, place: Place) -> State:
    raw = atomic.read(place.pending)
    try:
        pending = json.loads(raw.decode("utf-8")) if raw else None
    except ValueError:
        pending = {"backup": ""}
    return State(docker.container(place.name), docker.container(place.name + PREVIOUS), os.path.exists(place.database), pending)


def plan(state: State, place: Place, wanted: str, with_database: bool = True) -> List[Step]:
    """Plan the steps to `wanted`: begun, finished or rolled_back."""
    name = place.name
    if wanted == "finished":
        steps = [Step("remove_previous", f"remove the container {name}{PREVIOUS}")] if state.previous.exists else []
        return steps + ([Step("forget", "forget the upgrade")] if state.pending is not None else [])
    if wanted == "rolled_back":
        if state.pending is None:
            return []
        steps = [Step("remove", f"remove the container {name}")] if state.container.exists else []
        if state.pending.get("backup"):
            steps.append(Step("restore", f"restore the database from {state.pending['backup']}"))
        if state.previous.exists:
            steps.append(Step("rename_back", f"start the previous container {name} again"))
        return [*steps, Step("forget", "forget the upgrade")]
    if state.pending is not None:  # interrupted: the backup was made before anything could have changed the database
        return [Step("remove", f"remove the container {name}")] if state.container.exists and state.previous.exists else []
    steps = [Step("stop", f"stop the container {name}")] if state.container.running else []
    if with_database and state.has_database:
        steps.append(Step("backup", f"back up the database to {place.backups}"))
    if steps or state.container.exists:
        steps.append(Step("remember", "remember the upgrade"))
    if state.container.exists:
        steps.append(Step("rename", f"keep the container as {name}{PREVIOUS}"))
    return steps


class Upgrade:
    """Carries out the steps on a host."""

    def __init__(self, docker: Docker, place: Place, keep: int) -> None:
        self.docker, self.place, self.keep = docker, place, keep
        self.path = ""

    def apply(self, state: State, steps: List[Step]) -> None:
        for step in steps:
            getattr(self, f"_{step.action}")(state)

    def _stop(self, state: State) -> None:
        self.docker.do("stop", "--time", str(STOP_SECONDS), self.place.name)

    def _backup(self, state: State) -> None:
        self.path = backup(self.place, {"image": state.container.image}, files=False)

    def _remember(self, state: State) -> None:
        make_folder(self.place.backups)
        atomic.replace(self.place.pending, json.dumps({"backup": self.path}).encode(), 0o600)

    def _rename(self, state: State) -> None:
        self.docker.do("rename", self.place.name, self.place.name + PREVIOUS)

    def _remove(self, state: State) -> None:
        # With a killed migration the database is what the backup is for; a stop lets it end where it can.
        self.docker.do("stop", "--time", str(STOP_SECONDS), self.place.name)
        self.docker.do("rm", self.place.name)

    def _restore(self, state: State) -> None:
        restore(self.place, state.pending["backup"], files=False)

    def _rename_back(self, state: State) -> None:
        self.docker.do("rename", self.place.name + PREVIOUS, self.place.name)
        self.docker.do("start", self.place.name)

    def _remove_previous(self, state: State) -> None:
        self.docker.do("rm", self.place.name + PREVIOUS)

    def _forget(self, state: State) -> None:
        atomic.replace(self.place.pending, None)
        prune(self.place.backups, self.keep)


def make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, 0o700)


def listing(folder: str) -> List[str]:
    """Return the backups in a folder, the oldest first."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.startswith("open-webui-") and name.endswith(".tar")]


def prune(folder: str, keep: int) -> None:
    for path in listing(folder)[: -keep if keep else None]:
        os.unlink(path)


def size_of(folder: str) -> int:
    return sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names
               if not os.path.islink(os.path.join(root, name)))


def backup(place: Place, about: Dict[str, str], files: bool) -> str:
    """Write one archive with the database, the secrets, and with `files` the uploads; return its path."""
    make_folder(place.backups)
    kept = [os.path.join(place.folder, name) for name in FILES if files and os.path.isdir(os.path.join(place.folder, name))]
    found = database.read(place.database)
    needed = 2 * found.size + sum(map(size_of, kept)) + (64 << 20)
    free = shutil.disk_usage(place.backups).free
    if free < needed:
        raise ForjaError(f"The backup needs {needed >> 20} MiB in {place.backups}, and {free >> 20} MiB are free. Free some, or name "
                         "another folder in open_webui_backup_dir. Nothing was changed.")
    path = os.path.join(place.backups, f"open-webui-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar")
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=place.backups) as draft:
        database.backup(place.database, os.path.join(draft, database.NAME))
        with open(os.path.join(draft, "about.json"), "w") as file:
            json.dump({**about, "head": found.head, "users": str(found.users)}, file)
        partial = os.path.join(draft, "archive")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
            for name in ("about.json", database.NAME):
                tar.add(os.path.join(draft, name), name)
            if os.path.exists(place.secrets):
                tar.add(place.secrets, "secrets.env")
            for folder in kept:
                tar.add(folder, f"files/{os.path.basename(folder)}")
        os.rename(partial, path)
    return path


def restore(place: Place, path: str, files: bool) -> None:
    """Put the database of a backup back, with `files` the secrets and the uploads too. The container must not run."""
    if not os.path.isfile(path):
        raise ForjaError(f"There is no backup {path}. There are: {', '.join(listing(place.backups)) or 'none'}.")
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=place.backups) as draft, tarfile.open(path) as tar:
        # Only what `backup` writes, and nothing that leads out of the folder.
        members = [member for member in tar.getmembers() if (member.isfile() or member.isdir())
                   and not member.name.startswith(("/", "..")) and "/../" not in member.name]
        tar.extractall(draft, members=members)  # noqa: S202  (members are chosen above)
        source = os.path.join(draft, database.NAME)
        if not os.path.isfile(source):
            raise ForjaError(f"{path} is not a backup of Open WebUI: it holds no {database.NAME}.")
        make_folder(place.folder)
        database.restore(source, place.database)
        if not files:
            return
        raw = atomic.read(os.path.join(draft, "secrets.env"))
        if raw:
            make_folder(os.path.dirname(place.secrets))
            atomic.replace(place.secrets, raw, 0o600)
        for name in FILES:
            new, old = os.path.join(draft, "files", name), os.path.join(place.folder, name)
            if os.path.isdir(new):
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(old)
                shutil.move(new, old)
