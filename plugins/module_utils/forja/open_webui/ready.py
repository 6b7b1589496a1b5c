# SPDX-License-Identifier: Apache-2.0
"""Wait until Open WebUI answers, for as long as it makes progress, and check that its database is migrated.

A first start and a migration take up to half an hour, and a restart in the middle of one corrupts SQLite. So there is no limit as long as
the log or the files of the database move. What the engine and the files say is enough; nothing is kept between two calls.
"""

import calendar
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from typing import Callable, List, NamedTuple, Optional

from ..host.errors import ForjaError
from .container import LOG_LINES, Container, Docker, describe
from .database import NAME, SIDES, Database, read

PORT = 8080  # inside the container
# Lines that asking for the state writes itself.
_ECHO = re.compile(r"/ready|/health|Readiness check|/api/version")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\S*\s(.*)")
# Prints the revisions that no other one follows, as Alembic's heads, without importing the program.
HEADS = r"""
import ast, importlib.util, pathlib
folder = pathlib.Path(importlib.util.find_spec("open_webui").submodule_search_locations[0], "migrations", "versions")
names, older = set(), set()
for file in folder.glob("*.py"):
    found = {}
    for node in ast.parse(file.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            pairs = zip(target.elts, node.value.elts) if isinstance(target, ast.Tuple) else [(target, node.value)]
            for name, value in pairs:
                if getattr(name, "id", "") in ("revision", "down_revision"):
                    found[name.id] = ast.literal_eval(value)
    if found.get("revision"):
        names.add(found["revision"])
        down = found.get("down_revision") or ()
        older.update([down] if isinstance(down, str) else down)
print(",".join(sorted(names - older)))
"""


def ask(url: str) -> int:
    """Return the HTTP status of GET `url`, 0 where nothing answers."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return int(opener.open(url, timeout=5).getcode())
    except urllib.error.HTTPError as error:
        return int(error.code)
    except (OSError, http.client.HTTPException):
        return 0


def answers(ask: Callable[[str], int], address: str) -> bool:
    """Return whether the container at an address is ready; for versions without /ready, which answer 404, /health counts."""
    base = f"http://{f'[{address}]' if ':' in address else address}:{PORT}"
    status = ask(f"{base}/ready")
    return status == 200 if status != 404 else ask(f"{base}/health") == 200


class Line(NamedTuple):
    time: float  # seconds since the epoch
    text: str


def log_lines(text: str) -> List[Line]:
    """Parse what `docker logs --timestamps` prints, without the lines that questions for the state leave."""
    matches = [_STAMP.match(line) for line in text.splitlines()]
    lines = [Line(calendar.timegm(time.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S")), match.group(2)) for match in matches if match]
    return sorted((line for line in lines if line.text.strip() and not _ECHO.search(line.text)), key=lambda line: line.time)


def why_down(before: Container, now: Container) -> str:
    """Return why the container does not stay up, empty where it does."""
    if not now.exists:
        return "is gone"
    if now.status in ("exited", "dead", "created", "paused") or now.restarts > before.restarts or now.status == "restarting":
        return f"does not stay up ({describe(now)})"
    return ""


def check_database(database: Database, heads: str) -> None:
    """Refuse a database that is not at the head of its migrations, or has no administrator."""
    if heads and database.head != heads:
        raise ForjaError(f"The database is at the migration {database.head or 'none'}, and this version of Open WebUI needs {heads}: a "
                         "migration failed, although the program answers.")
    if not database.admins:
        raise ForjaError("Open WebUI runs, and its database has no administrator: the first visitor would become one. See "
                         "open_webui_admin_email and `docker logs`.")


class Waiter:
    """One container on its way up. `ask(url)` returns an HTTP status, 0 where nothing answers."""

    def __init__(self, docker: Docker, name: str, folder: str, quiet: float, ask: Callable[[str], int],
                 report: Callable[[int, str], None], clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.docker, self.name, self.folder, self.quiet = docker, name, folder, quiet
        self.ask, self.report, self.clock, self.sleep = ask, report, clock, sleep
        self.before = docker.container(name)

    def wait(self, begin: float) -> None:
        """Return once it answers; ForjaError where it ends, or where nothing has moved for `quiet` seconds."""
        start = self.clock()
        while True:
            container = self.docker.container(self.name)
            trouble = why_down(self.before, container)
            if trouble:
                raise ForjaError(f"The container {self.name} {trouble}. Last lines of its log:\n{self.docker.logs(self.name)}")
            if container.address and answers(self.ask, container.address):
                return
            lines = log_lines(self._log())
            moved = max([start if begin == start else begin, *(line.time for line in lines), *self.written()])
            if self.clock() - moved > self.quiet:
                raise ForjaError(f"Open WebUI does not answer, and neither its log nor its database has moved for {self.quiet:g} s. The "
                                 f"container {self.name} runs on. Last lines of its log:\n{self.docker.logs(self.name)}")
            self.report(int(self.clock() - begin), lines[-1].text.strip()[:100] if lines else "")
            self.sleep(1.0)

    def written(self) -> List[float]:
        """When the files of the database were last written."""
        times: List[Optional[float]] = [_mtime(os.path.join(self.folder, NAME + side)) for side in ("", *SIDES)]
        return [found for found in times if found is not None]

    def check(self) -> Database:
        database = read(os.path.join(self.folder, NAME))
        check_database(database, self.docker.python(self.name, HEADS))
        return database

    def _log(self) -> str:
        rc, out, err = self.docker.run(["docker", "logs", "--timestamps", "--tail", str(LOG_LINES), self.name])
        return out + err if rc == 0 else ""


def _mtime(path: str) -> Optional[float]:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
