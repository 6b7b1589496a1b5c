# SPDX-License-Identifier: Apache-2.0
"""The module gpu_clients: who stops for whom, what is noted, and what comes back; on a made-up host with systemd, Docker and CRI."""

from __future__ import annotations

import fnmatch
import json
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.clients import plan as clients
from plugins.module_utils.forja.clients.control import CDI_FILE, Control
from plugins.module_utils.forja.clients.plan import ALWAYS, CRI, DOCKER, UNIT, WHEN_BLOCKING, Client, Known, Stop
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.modules import gpu_clients as module

LONG = "0123456789ab" + "c" * 52
DEFAULT = [
    Known(UNIT, "slurmd.service", ALWAYS),
    Known(UNIT, "kubelet.service", ALWAYS),
    Known(CRI, "nvidia-device-plugin-ctr", ALWAYS),
    Known(UNIT, "ollama.service", WHEN_BLOCKING),
    Known(UNIT, "triton*.service", WHEN_BLOCKING),
    Known(UNIT, "dcgm-exporter.service", ALWAYS),
    Known(UNIT, "nvidia-dcgm.service", ALWAYS),
]


def in_pod(key: str, name: str) -> dict[str, Any]:
    """A container as `crictl ps --output json` prints it: the message Container of the runtime interface, with 64-bit numbers as text."""
    return {
        "id": key,
        "podSandboxId": "134b58ab2e0cfd7432a9db818b1b4ec52fdc747333f0ba2c9342860dc2ea7c50",
        "metadata": {"name": name, "attempt": 0},
        "image": {"image": "sha256:0630afbcfebb45059794b9a9f160f57f50062d28351c49bb568a3f7e206855bd", "annotations": {}},
        "imageRef": "sha256:0630afbcfebb45059794b9a9f160f57f50062d28351c49bb568a3f7e206855bd",
        "state": "CONTAINER_RUNNING",
        "createdAt": "1641576808817824971",
        "labels": {"io.kubernetes.container.name": name, "io.kubernetes.pod.name": name + "-x7k2p", "io.kubernetes.pod.namespace": "gpu"},
        "annotations": {"io.kubernetes.container.restartCount": "0"},
    }


class PowerCutError(Exception):
    """The power went."""


class FakeHost:
    """systemctl, docker, crictl and nvidia-ctk on units and containers of memory. `order` is what it was told to change."""

    def __init__(self, **units: Any) -> None:
        self.units: dict[str, dict[str, Any]] = {
            name.replace("_", "-") + ".service": {"up": True, **(made or {})} for name, made in units.items()
        }
        self.docker: dict[str, dict[str, Any]] = {}
        self.cri: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.clock = 0.0
        self.stubborn: set[str] = set()  # does not stop
        self.dead: set[str] = set()  # does not start
        self.crashes: set[str] = set()  # starts, and ends at once
        self.die_at = -1
        self.crictl: Result | None = None  # what it answers instead
        self.programs = {"docker", "crictl"}
        self.files: set[str] = set()

    def running(self) -> set[str]:
        return {name for name, unit in self.units.items() if unit["up"]} | {
            one["name"] for each in (self.docker, self.cri) for one in each.values() if one["up"]
        }

    def control(self) -> Control:
        return Control(self.run, lambda name: name if name in self.programs else None, self.files.__contains__, self.sleep, self.now, 5)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def now(self) -> float:
        return self.clock

    def run(self, argv: list[str]) -> Result:
        words = [word for word in argv[1:] if not word.startswith("--")]
        if argv[0] == "systemctl" and words[0] == "show":
            return Result(0, "\n\n".join(self.show(words[1:])), "")
        if argv[0] == "journalctl":
            return Result(0, "the journal says why", "")
        if argv[:2] == ["docker", "ps"]:
            return Result(0, "".join(f"{key}\t{one['name']}\t{one['label']}\n" for key, one in self.docker.items() if one["up"]), "")
        if argv[:2] == ["docker", "inspect"]:
            return Result(0, "".join(f"{key} {str(self.docker[key]['rm']).lower()}\n" for key in argv[4:]), "")
        if argv[:2] == ["crictl", "ps"]:
            if self.crictl:
                return self.crictl
            records = [in_pod(key, one["name"]) for key, one in self.cri.items() if one["up"]]
            return Result(0, json.dumps({"containers": records}, indent=2) + "\n", "")
        if len(self.order) == self.die_at:
            raise PowerCutError
        self.order.append(" ".join([argv[0], *words]))
        return self.change(argv[0], words)

    def change(self, program: str, words: list[str]) -> Result:
        verb, name = words[0], words[-1]
        if program == "docker":
            self.docker[name]["up"] = verb == "start"
        elif program == "crictl":
            self.cri[name]["up"] = False
        elif program == "systemctl" and verb == "stop":
            self.stop(name)
        elif program == "systemctl" and name in self.dead:
            return Result(1, "", "Job failed")
        elif program == "systemctl" and name in self.units:
            self.units[name]["up"] = name not in self.crashes
            if name == "kubelet.service":
                self.cri = {key + "2": dict(one, up=True) for key, one in self.cri.items()}
        return Result(0, "", "")

    def stop(self, name: str) -> None:
        if name in self.stubborn or not self.units[name]["up"]:
            return
        self.units[name]["up"] = False
        for other in self.units[name].get("required_by", []):
            self.stop(other)

    def show(self, names: list[str]) -> Iterator[str]:
        for name, unit in self.units.items():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in names):
                state = "active" if unit["up"] else "failed" if name in self.crashes else "inactive"
                yield (
                    f"Id={name}\nLoadState=loaded\nActiveState={state}\nType=simple\nRequiredBy={' '.join(unit.get('required_by', []))}\n"
                    f"TriggeredBy={' '.join(unit.get('triggered_by', []))}"
                )
        for name in names:
            if "*" not in name and name not in self.units:
                yield f"Id={name}\nLoadState=not-found\nActiveState=inactive"


def blocker(unit: str | None = None, container: str | None = None, **more: Any) -> dict[str, Any]:
    return {"gpu": 0, "gpu_instance": None, "pid": 4711, "name": "python3", "command": "python3 train.py", "unit": unit,
            "container": container, **more}


def docker(name: str = "web", label: str = "", rm: bool = False) -> dict[str, Any]:
    return {"name": name, "label": label, "up": True, "rm": rm}


def planned(host: FakeHost, blockers: list[dict[str, Any]], known: list[Known] = DEFAULT) -> list[Stop]:
    return clients.plan_stop(host.control().gather(known, "forja.mig"), known, blockers)


@pytest.mark.parametrize(("units", "blockers", "stopped"), [
    ({}, [], []),
    ({"ollama": None}, [], []),
    ({"ollama": None}, [blocker("ollama.service")], ["ollama"]),
    ({"ollama": None, "slurmd": None}, [], ["slurmd"]),
    ({"nvidia_dcgm": None, "dcgm_exporter": None, "ollama": None}, [blocker("ollama.service")], ["ollama", "dcgm-exporter", "nvidia-dcgm"]),
    ({"triton_a": None, "triton_b": None}, [blocker("triton-b.service")], ["triton-b"]),
    # What requires a client goes down with it; what would start it again goes before it.
    ({"ollama": {"required_by": ["chat.service"]}, "chat": None}, [blocker("ollama.service")], ["chat", "ollama"]),
    ({"ollama": {"triggered_by": ["alarm.service"]}, "alarm": None}, [blocker("ollama.service")], ["alarm", "ollama"]),
    ({"nvidia_dcgm": {"required_by": ["dcgm-exporter.service"]}, "dcgm_exporter": None}, [], ["dcgm-exporter", "nvidia-dcgm"]),
])
def test_units(units: dict[str, Any], blockers: list[dict[str, Any]], stopped: list[str]) -> None:
    assert [step.client.name for step in planned(FakeHost(**units), blockers)] == [name + ".service" for name in stopped]


def test_only_units_that_run_are_dragged() -> None:
    host = FakeHost(ollama={"required_by": ["chat.service"]}, chat=None)
    host.units["chat.service"]["up"] = False
    assert [step.client.name for step in planned(host, [blocker("ollama.service")])] == ["ollama.service"]


@pytest.mark.parametrize(("label", "blocks", "stopped"), [
    ("", False, []),
    ("", True, [(DOCKER, "web")]),
    ("always", False, [(DOCKER, "web")]),
    ("triton.service", False, []),
    ("triton.service", True, [(UNIT, "triton.service")]),
    ("gone.service", True, [(DOCKER, "web")]),
])
def test_labelled_containers(label: str, blocks: bool, stopped: list[tuple[str, str]]) -> None:
    host = FakeHost(triton=None)
    host.docker[LONG] = docker(label=label)
    found = planned(host, [blocker("docker-0123.scope", "docker:0123456789ab")] if blocks else [])
    assert [(step.client.kind, step.client.name) for step in found] == stopped


@pytest.mark.parametrize(("label", "blocks"), [("always", False), ("", True)])
def test_a_container_that_would_be_gone_once_stopped(label: str, blocks: bool) -> None:
    host = FakeHost(slurmd=None)
    host.docker[LONG] = docker(label=label, rm=True)
    with pytest.raises(ForjaError, match=r"container web \(0123456789ab\) was started with --rm"):
        planned(host, [blocker("docker-0123.scope", "docker:0123456789ab")] if blocks else [])


def test_a_container_that_would_be_gone_may_stay_where_it_is_not_in_the_way_or_has_a_unit() -> None:
    host = FakeHost(triton=None)
    host.docker[LONG] = docker(label="triton.service", rm=True)
    assert planned(host, []) == []
    assert [step.client.kind for step in planned(host, [blocker("docker-0123.scope", "docker:0123456789ab")])] == [UNIT]


def test_pods_stop_behind_kubelet() -> None:
    host = FakeHost(kubelet=None)
    host.cri[LONG] = {"name": "nvidia-device-plugin-ctr", "up": True}
    host.cri["f" * 64] = {"name": "somebody-else", "up": True}
    assert [step.client.name for step in planned(host, [])] == ["kubelet.service", "nvidia-device-plugin-ctr"]
    with pytest.raises(ForjaError, match="containerd:ffffffffffff"):
        planned(host, [blocker("cri-containerd-f.scope", "containerd:" + "f" * 12)])


@pytest.mark.parametrize(("answer", "said"), [
    (Result(1, "", "validate service connection: no such file\n"),
     "crictl cannot list the containers in its pods: validate service connection: no such file. Nothing"),
    (Result(1, "", ""), "exit status 1"),
    (Result(0, "CONTAINER   IMAGE\n", ""), "cannot be understood"),
    (Result(0, '{"containers": [{"id": "a"}]}', ""), "cannot be understood"),
])
def test_pods_that_crictl_cannot_list(answer: Result, said: str) -> None:
    """Where kubelet runs, somebody there may use the GPUs; elsewhere crictl is a program that somebody left."""
    host = FakeHost(kubelet=None)
    host.crictl = answer
    with pytest.raises(ForjaError, match=re.escape(said)):
        planned(host, [])
    assert host.order == []
    host.units["kubelet.service"]["up"] = False
    assert planned(host, []) == []


def test_a_runtime_without_containers() -> None:
    host = FakeHost(kubelet=None)
    for empty in ('{"containers": []}', '{"containers": null}'):
        host.crictl = Result(0, empty, "")
        assert [step.client.name for step in planned(host, [])] == ["kubelet.service"]


@pytest.mark.parametrize("record", [
    blocker("session-3.scope"), blocker(), blocker("slurmd.service"), blocker("docker-9.scope", "docker:999999999999"),
    blocker("ollama.service", "lxc:train"),
])
def test_strangers_are_named_and_nothing_stops(record: dict[str, Any]) -> None:
    with pytest.raises(ForjaError, match=r"(?s)GPU 0: python3 train.py \(pid 4711.*Nothing was stopped"):
        planned(FakeHost(ollama=None), [blocker("ollama.service"), record])


def test_a_unit_of_podman_stops_with_its_container() -> None:
    host = FakeHost(triton=None)
    assert [step.client.name for step in planned(host, [blocker("triton.service", "podman:999999999999")])] == ["triton.service"]


def test_no_engine_and_no_runtime() -> None:
    host = FakeHost(ollama=None)
    host.programs = set()
    host.docker[LONG] = docker(label="always")
    assert planned(host, []) == []


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "forja/gpu-clients.json"
    monkeypatch.setattr(clients, "NOTE", str(path))
    return path


Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(note: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the module on a host with the clients of DEFAULT; returns what it printed."""

    def on(host: FakeHost, state: str, check: bool = False, **more: Any) -> dict[str, Any]:
        known = [{"unit" if one.kind == UNIT else "cri_container": one.name, "stop": one.when} for one in DEFAULT]
        monkeypatch.setattr(module, "control_of", lambda _module: host.control())
        arguments = {"state": state, "clients": known, "container_label": "forja.mig", **more, "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return on


def full() -> FakeHost:
    host = FakeHost(slurmd=None, kubelet=None, ollama={"required_by": ["chat.service"]}, chat=None, nvidia_dcgm=None, dcgm_exporter=None)
    host.docker[LONG] = docker(label="always")
    host.cri["a" * 64] = {"name": "nvidia-device-plugin-ctr", "up": True}
    return host


BLOCKED = [blocker("ollama.service")]


def test_stops_notes_and_starts_in_order(call: Call, note: Path) -> None:
    host = full()
    before = host.running()
    predicted = call(host, "stopped", check=True, blockers=BLOCKED)
    assert host.running() == before
    assert not note.exists()
    told = call(host, "stopped", blockers=BLOCKED)
    assert told["steps"] == predicted["steps"]
    assert told["noted"] == predicted["noted"]
    assert host.running() == set()
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    names = [step.split()[-1] for step in host.order]
    assert names == [LONG, "slurmd.service", "kubelet.service", "a" * 64, "chat.service", "ollama.service", "dcgm-exporter.service",
                     "nvidia-dcgm.service"]
    host.order.clear()
    foreseen = call(host, "started", check=True, predicted=predicted["noted"])
    assert call(host, "started")["steps"] == foreseen["steps"]
    assert [step.split()[-1] for step in host.order] == ["nvidia-dcgm.service", "dcgm-exporter.service", "ollama.service", "chat.service",
                                                          "kubelet.service", "slurmd.service", LONG]
    assert host.running() == before
    assert not note.exists()
    assert call(host, "started")["changed"] is False


@given(at=st.integers(0, 20), then=st.sampled_from(["started", "stopped"]))
def test_a_run_that_is_killed_leaves_nothing_stopped(at: int, then: str) -> None:
    """At whatever order the power goes: what ran before runs in the end."""
    with tempfile.TemporaryDirectory() as folder:
        path, host = folder + "/note", full()
        before = host.running()

        def stop(blockers: list[dict[str, Any]]) -> None:
            stops = planned(host, blockers)
            clients.write_note(path, "boot", clients.merged(clients.read_note(path, "boot") or [], stops))
            host.control().stop(stops)

        def start() -> None:
            assert host.control().start(clients.order_of_start(clients.read_note(path, "boot") or [])) == []

        host.die_at = at
        try:
            stop(BLOCKED)
            start()
        except PowerCutError:
            host.die_at = -1
            if then == "stopped":
                stop([])
        host.die_at = -1
        start()
        assert host.running() == before


def test_what_does_not_stop_is_told_with_its_journal(call: Call) -> None:
    host = full()
    host.stubborn = {"slurmd.service"}
    told = call(host, "stopped")
    assert told["failed"]
    assert "slurmd.service has not stopped within 5 s." in told["msg"]
    assert "the journal says why" in told["msg"]
    assert "changed" in call(host, "started")
    assert host.running() == full().running()


@pytest.mark.parametrize("how", ["dead", "crashes"])
def test_what_does_not_come_back_is_told_and_kept_for_the_next_run(call: Call, note: Path, how: str) -> None:
    host = full()
    call(host, "stopped")
    setattr(host, how, {"nvidia-dcgm.service"})
    told = call(host, "started")
    assert told["failed"]
    assert "nvidia-dcgm.service" in told["msg"]
    assert host.running() == full().running() - {"nvidia-dcgm.service"}
    assert [one["name"] for one in json.loads(note.read_text())["clients"]] == ["nvidia-dcgm.service"]
    setattr(host, how, set())
    assert call(host, "started")["steps"] == ["start nvidia-dcgm.service"]
    assert not note.exists()


def test_pods_that_kubelet_does_not_bring_back(call: Call) -> None:
    host = full()
    call(host, "stopped")
    host.cri.clear()
    assert "kubelet has not started container nvidia-device-plugin-ctr" in call(host, "started")["msg"]


def test_something_that_starts_a_client_again_is_found(call: Call) -> None:
    host = full()
    real = host.stop

    def haunted(name: str) -> None:
        real(name)
        if name == "nvidia-dcgm.service":
            host.units["slurmd.service"]["up"] = True

    host.stop = haunted  # type: ignore[method-assign]
    assert "Stopped, and running again: slurmd.service" in call(host, "stopped")["msg"]


@pytest.mark.parametrize(("unit", "programs", "files", "argv"), [
    (True, {"nvidia-ctk"}, {CDI_FILE}, "systemctl restart nvidia-cdi-refresh.service"),
    (False, {"nvidia-ctk"}, {CDI_FILE}, "nvidia-ctk cdi generate"),
    (False, set(), {CDI_FILE}, None),
    (False, {"nvidia-ctk"}, set(), None),
])
def test_cdi_comes_before_the_clients(call: Call, unit: bool, programs: set[str], files: set[str], argv: str | None) -> None:
    host = FakeHost(slurmd=None, **({"nvidia_cdi_refresh": None} if unit else {}))
    host.programs, host.files = programs, files
    call(host, "stopped")
    call(host, "started")
    assert host.order == ["systemctl stop slurmd.service", *([argv] if argv else []), "systemctl start slurmd.service"]


def test_even_without_clients_the_change_is_noted(call: Call, note: Path) -> None:
    host = FakeHost()
    assert call(host, "stopped")["changed"]
    assert note.exists()
    assert call(host, "started")["changed"]
    assert not note.exists()


def test_after_a_reboot_only_containers_are_started(tmp_path: Path) -> None:
    path = str(tmp_path / "note")
    unit, container = Client(UNIT, "a.service", "a.service"), Client(DOCKER, "web", LONG)
    clients.write_note(path, "one", [unit, container])
    assert clients.read_note(path, "one") == [unit, container]
    assert clients.read_note(path, "two") == [container]


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 7}', '{"version": 1, "clients": [{}]}'])
def test_a_note_that_cannot_be_read_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "note"
    path.write_text(content)
    with pytest.raises(ForjaError, match="Start what it names yourself"):
        clients.read_note(str(path), "boot")


def test_the_module_wants_a_unit_or_a_container(capsys: pytest.CaptureFixture[str]) -> None:
    with patch_module_args({"state": "stopped", "clients": [{"stop": "always"}]}), pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 1
    assert "one of the following is required: unit, cri_container" in capsys.readouterr().out
