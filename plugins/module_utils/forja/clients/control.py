# SPDX-License-Identifier: Apache-2.0
"""Stop and start the clients of GPUs: units by systemd, containers by Docker and by a container runtime of Kubernetes."""

import json
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..host.errors import ForjaError
from ..host.run import Run
from ..systemd.manager import Manager, parse_show, trouble
from .plan import CRI, DOCKER, UNIT, Client, Container, Host, Known, Stop, Unit

# What systemd stops together with a unit (in its source: the relations with the atom PROPAGATE_STOP).
_DRAGS = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
_ASKED = ("Id", "LoadState", "ActiveState", "SubState", "TriggeredBy") + _DRAGS
_UP = ("active", "activating", "reloading", "refreshing")
KUBELET = "kubelet.service"
REFRESH_UNIT = "nvidia-cdi-refresh.service"
CDI_FILE = "/etc/cdi/nvidia.yaml"
_DOCKER_PS = ["docker", "ps", "--no-trunc", "--format"]


class Control(NamedTuple):
    """Access to the host. `which` finds a program; `timeout` is how many seconds one client may take."""

    run: Run
    which: Callable[[str], Optional[str]]
    exists: Callable[[str], bool]
    sleep: Callable[[float], None]
    now: Callable[[], float]
    timeout: float

    @property
    def manager(self) -> Manager:
        return Manager(self.run, False, self.sleep)


    def gather(self, known: Sequence[Known], label: str) -> Host:
        containers, why = self._docker(label), None
        if any(client.kind == CRI for client in known):
            pods, why = self._cri()
            containers += pods
        names = [client.name for client in known if client.kind == UNIT]
        names += [container.label for container in containers if container.label.endswith(".service")]
        units = self._units(names)
        # Without kubelet there are no pods, and a leftover crictl has nothing to query.
        if why and KUBELET in units and units[KUBELET].running:
            raise ForjaError(f"{KUBELET} runs, but crictl cannot list the containers in its pods: {why}. Nothing was stopped or changed. "
                             "Check runtime-endpoint in /etc/crictl.yaml.")
        return Host(units, tuple(containers))

    def _units(self, patterns: Sequence[str]) -> Dict[str, Unit]:
        """Read the units and those tied to the running ones, with one call for each level."""
        found: Dict[str, Unit] = {}
        todo: Set[str] = set(patterns)
        asked: Set[str] = set()
        while todo:
            asked |= todo
            output = self.manager.systemctl("show", "--property=" + ",".join(_ASKED), "--", *sorted(todo))
            todo = set()
            for properties in parse_show(output):
                if properties.get("LoadState") == "not-found" or "Id" not in properties:
                    continue
                drags = [name for key in _DRAGS for name in properties.get(key, "").split()]
                unit = Unit(
                    properties["Id"], properties.get("ActiveState") in _UP, tuple(drags), tuple(properties.get("TriggeredBy", "").split())
                )
                found[unit.name] = unit
                if unit.running:
                    todo |= set(unit.dependants + unit.triggers) - asked
        return found

    def _docker(self, label: str) -> List[Container]:
        if not label or self.which("docker") is None:
            return []
        form = f'{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.Label "{label}"}}}}'
        rc, out, _err = self.run(_DOCKER_PS + [form, "--filter", "label=" + label])
        # A stopped engine runs no containers.
        rows = [row for row in (line.split("\t") for line in out.splitlines()) if len(row) == 3] if rc == 0 else []
        if not rows:
            return []
        _rc, out, _err = self.run(["docker", "inspect", "--format", "{{.Id}} {{.HostConfig.AutoRemove}}"] + [row[0] for row in rows])
        return [Container(DOCKER, row[0], row[1], row[2], row[0] + " true" not in out.splitlines()) for row in rows]

    def _cri(self) -> Tuple[List[Container], Optional[str]]:
        """Read the containers in pods; the second value says why they cannot be read."""
        if self.which("crictl") is None:
            return [], None
        rc, out, err = self.run(["crictl", "ps", "--state", "running", "--output", "json"])
        if rc != 0:
            return [], (err or out).strip() or f"exit status {rc}"
        try:
            return [Container(CRI, record["id"], record["metadata"]["name"]) for record in json.loads(out)["containers"] or []], None
        except (ValueError, KeyError, TypeError) as error:
            return [], f"its answer cannot be understood ({error!r})"

    def cdi(self) -> Optional[str]:
        """Return how this host generates its CDI specification; None where it has none."""
        show = parse_show(self.manager.systemctl("show", "--property=LoadState", REFRESH_UNIT))
        if show and show[0].get("LoadState") == "loaded":
            return "restart " + REFRESH_UNIT
        if self.which("nvidia-ctk") and self.exists(CDI_FILE):
            return f"write {CDI_FILE} again"
        return None

    def stop(self, stops: Sequence[Stop]) -> None:
        for stop in stops:
            client = stop.client
            if client.kind == DOCKER:
                self._command(["docker", "stop", client.id], client)
            elif client.kind == CRI:
                self._command(["crictl", "stop", "--timeout", "10", client.id], client)
            else:
                self._command(["systemctl", "stop", "--no-block", "--", client.name], client)
                if not self._await(client.name, False):
                    raise ForjaError(self._with_journal(f"{client.name} has not stopped within {self.timeout:g} s.", client.name))

    def start(self, clients: Sequence[Client]) -> List[Tuple[Client, str]]:
        """Start clients in this order, each when the one before is up; return those that failed, and why."""
        failed = []
        for client in clients:
            try:
                self._start(client)
            except ForjaError as error:
                failed.append((client, str(error)))
        bad = [client for client, _why in failed]
        watched = {client.name: client for client in clients if client.kind == UNIT and client not in bad}
        # A program that fails on the new GPUs ends at once, after systemd has reported it as started.
        for _moment in range(4):
            if not watched:
                break
            self.sleep(0.25)
            for properties in self._show(sorted(watched)):
                problem = trouble(properties)
                if problem and properties["Id"] in watched:
                    failed.append((watched.pop(properties["Id"]), self._with_journal(problem + ".", properties["Id"])))
        return failed

    def refresh(self, how: Optional[str]) -> None:
        """Generate the CDI specification as `cdi` says: containers that start need the present devices."""
        if how is None:
            return
        unit = how.endswith(REFRESH_UNIT)
        argv = ["systemctl", "restart", REFRESH_UNIT] if unit else ["nvidia-ctk", "cdi", "generate", "--output=" + CDI_FILE]
        rc, out, err = self.run(argv)
        if rc != 0:
            raise ForjaError(f"The CDI specification was not generated: {' '.join(argv)}: {(err or out).strip()}")

    def _start(self, client: Client) -> None:
        if client.kind == DOCKER:
            self._command(["docker", "start", client.id], client)
        elif client.kind == CRI:
            end = self.now() + self.timeout
            while not any(container.name == client.name for container in self._cri()[0]):
                if self.now() > end:
                    raise ForjaError(f"kubelet has not started container {client.name} again within {self.timeout:g} s")
                self.sleep(1)
        else:
            # A target would start everything it wants, also what a person has stopped.
            mode = ["--job-mode=ignore-dependencies"] if client.name.endswith(".target") else []
            self._command(["systemctl", "start", "--no-block"] + mode + ["--", client.name], client)
            if not self._await(client.name, True):
                raise ForjaError(self._with_journal(f"{client.name} has not started within {self.timeout:g} s.", client.name))

    def _command(self, argv: List[str], client: Client) -> None:
        rc, out, err = self.run(argv)
        if rc != 0:
            raise ForjaError(f"{client.describe()}: {' '.join(argv)}: {(err or out).strip() or f'exit status {rc}'}")

    def _await(self, name: str, up: bool) -> bool:
        """Wait until nothing is under way for a unit any more; return whether it gets there."""
        end = self.now() + self.timeout
        pause = 0.02
        while True:
            shown = self._show([name])
            state, job = (shown[0].get("ActiveState"), shown[0].get("Job")) if shown else (None, None)
            # Before the job has begun, a unit that is to start is still inactive, and one that is to stop still active.
            if not job and state not in ("deactivating", "activating") and (up or state not in _UP):
                return True
            if self.now() > end:
                return False
            self.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _show(self, names: Sequence[str]) -> List[Dict[str, str]]:
        asked = "Id,ActiveState,SubState,Type,ConditionResult,NRestarts,Job"
        return parse_show(self.manager.systemctl("show", "--property=" + asked, "--", *names))

    def _with_journal(self, problem: str, name: str) -> str:
        return (problem + "\n" + self.manager.journal([name])).strip()
