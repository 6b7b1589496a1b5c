# SPDX-License-Identifier: Apache-2.0
"""gpu_facts as a module, its time limits, and what it does when the host is broken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.module_utils.forja.facts import azure, nvml
from plugins.module_utils.forja.facts import survey as gpu_survey
from plugins.module_utils.forja.host import deadline
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.nvml import access as nvml_access
from plugins.modules import gpu_facts
from tests.compat import pythons
from tests.lab.machines import match
from tests.lab.machines.build import build, load
from tests.lab.machines.fake_nvml import FakeNvml


def run_module(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        gpu_facts.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_module_reads_another_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(load(match.MACHINES / "rtx5060-nouveau" / "machine.yml"), tmp_path / "root")
    answer = run_module(capsys, root=str(tmp_path / "root"))
    assert answer["changed"] is False
    assert answer["ansible_facts"]["gpu"]["recommended"]["driver"] == "open"
    assert "another tree" in answer["ansible_facts"]["gpu"]["nvml"]["reason"]


def test_module_returns_what_was_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(run_module(capsys, root=str(tmp_path), gather=["platform"])["ansible_facts"]["gpu"]) == {"platform", "problems", "summary"}


def test_module_refuses_a_root_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run_module(capsys, root=str(tmp_path / "nothing"))
    assert answer["failed"] is True
    assert "not a folder" in answer["msg"]


def test_module_refuses_a_root_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(_path: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("plugins.module_utils.forja.host.files.os.listdir", denied)
    answer = run_module(capsys, root=str(tmp_path))
    assert "not a folder that can be read" in answer["msg"]


@pytest.mark.parametrize("value", [0, -1, "inf", "nan", 1e9])
@pytest.mark.parametrize("name", ["imds_timeout", "nvml_timeout"])
def test_module_refuses_a_time_that_is_none(name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_module(capsys, root=str(tmp_path), **{name: value})["msg"].startswith(f"{name} is ")


def test_module_runs_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_module(capsys, imds_timeout=0.1)["ansible_facts"]["gpu"]["platform"]["evidence"]


def test_no_program_is_started(tmp_path: Path) -> None:
    """Where sysfs and NVML suffice."""
    watching = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            raise AssertionError(f"{event} {arguments}")

    sys.addaudithook(hook)  # there is no way to take one off
    try:
        for name in ("rtx3090-open", "hgx-h100", "azure-nc-a100"):
            assert match.survey(name, tmp_path / name)["problems"] == []  # a child's error would be one
    finally:
        watching[0] = False


def test_documentation_names_every_option() -> None:
    options = yaml.safe_load(gpu_facts.DOCUMENTATION)["options"]
    spec = gpu_facts.argument_spec()
    assert set(options) == set(spec)
    for name, option in spec.items():
        for key in ("type", "default", "choices", "elements"):
            assert options[name].get(key) == option.get(key), (name, key)


def test_documentation_names_every_fact(tmp_path: Path) -> None:
    documented = yaml.safe_load(gpu_facts.RETURN)["ansible_facts"]["contains"]["gpu"]["contains"]
    facts = match.survey("hgx-h100", tmp_path)
    assert set(documented) == set(facts)
    assert set(documented["gpus"]["contains"]) == set(facts["gpus"][0])


# NVML

GPU = {"address": "00000000:01:00.0", "name": "NVIDIA X", "uuid": "GPU-1", "memory_mib": 1024}


def test_nvml_hangs(tmp_path: Path) -> None:
    build({"pci": {"0000:01:00.0": {"id": "10de:2330", "class": "0302", "driver": "nvidia"}}}, tmp_path)
    slow = FakeNvml({"hangs": 30, "driver": "580.1", "cuda": 13000})
    begin = time.monotonic()
    facts = gpu_survey.survey(HostFiles(str(tmp_path)), gpu_survey.Means(match.means({}).ask_azure, partial(nvml.read_within, slow, 0.2)))
    assert time.monotonic() - begin < 3
    assert facts["nvml"]["state"] == "hangs"
    assert [problem["name"] for problem in facts["problems"]] == ["nvml_hangs"]
    assert facts["gpus"][0]["name"] == "NVIDIA H100 SXM5 80GB", "what sysfs knows stays"


class Stuck(HostFiles):
    """Reading what a stuck driver, or a process that it holds, should answer does not come back."""

    def text(self, path: str, limit: int = 65536) -> str | None:
        if path.endswith("/information") or re.match(r"/proc/\d+/cmdline$", path):
            time.sleep(30)
        return super().text(path, limit)


def test_a_stuck_driver_stops_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_survey, "DRIVER_SECONDS", 0.2)
    monkeypatch.setattr(gpu_survey, "HOLDERS_SECONDS", 0.2)
    build(load(match.MACHINES / "rtx3090-open" / "machine.yml"), tmp_path)
    begin = time.monotonic()
    facts = gpu_survey.survey(Stuck(str(tmp_path)), match.means({}))
    assert time.monotonic() - begin < 5
    assert [problem["name"] for problem in facts["problems"]] == ["driver_hangs", "holders_partial"]
    assert facts["gpus"][0]["name"] == "NVIDIA GeForce RTX 3090", "what sysfs knows stays"


def test_nvml_without_privilege_keeps_the_mig_devices() -> None:
    machine = load(match.MACHINES / "hgx-h100" / "machine.yml")["nvml"]
    instances = nvml.read(FakeNvml(dict(machine, unprivileged=True)))["gpus"][0]["mig"]["instances"]
    assert instances == [
        {
            "gpu_instance": 1,
            "profile": None,
            "profile_id": None,
            "memory_mib": None,
            "placement": None,
            "devices": [{"compute_instance": 0, "uuid": "MIG-00000000-0000-5000-0000-000000000001", "profile": "3g.40gb"}],
        }
    ]


def test_nvml_is_shut_down_and_a_lost_gpu_is_a_problem() -> None:
    fake = FakeNvml({"driver": "580.1", "cuda": 13000, "gpus": [dict(GPU), {"lost": True}]})
    answer = nvml.read(fake)
    assert fake.open == 0
    assert answer["lost"] == [1]
    assert answer["nvml_version"] == "13.580.1"


def asked(machine: dict[str, Any], folder: Path) -> dict[str, Any]:
    build(machine, folder)
    return gpu_survey.survey(HostFiles(str(folder)), match.means(machine))


def test_the_driver_names_what_the_table_does_not(tmp_path: Path) -> None:
    machine = load(match.MACHINES / "rtx3090-open" / "machine.yml")
    machine["pci"]["0000:0a:00.0"]["id"] = "10de:ffff"
    machine["nvml"]["gpus"][0].update(name="NVIDIA GeForce RTX 9090", capability=[8, 9])
    facts = asked(machine, tmp_path)
    assert (facts["gpus"][0]["name"], facts["gpus"][0]["architecture"]) == ("NVIDIA GeForce RTX 9090", "Ada")
    assert facts["summary"] == "1 problem (gpu unknown); RTX 9090 24 GB (nvidia 580.126.20 open)"


@pytest.mark.parametrize("fault", ["not counted", "no handle"])
def test_a_gpu_that_the_driver_lost_is_named(fault: str, tmp_path: Path) -> None:
    machine = load(match.MACHINES / "hgx-h100" / "machine.yml")
    gpus = machine["nvml"]["gpus"]
    address = gpus[2]["address"][4:].lower()
    gpus[2:3] = [] if fault == "not counted" else [{"lost": True}]
    problems = asked(machine, tmp_path / "host")["problems"]
    assert [problem["name"] for problem in problems] == ["gpu_lost"]
    assert f"the GPU at {address}:" in problems[0]["message"]
    in_container = asked({**machine, "files": {**machine.get("files", {}), "/.dockerenv": ""}}, tmp_path / "container")
    assert [problem["name"] for problem in in_container["problems"]] == (["gpu_lost"] if fault == "no handle" else [])


def test_gpus_that_an_azure_vm_did_not_get_are_told(tmp_path: Path) -> None:
    machine = load(match.MACHINES / "azure-nd-h100" / "machine.yml")
    del machine["pci"]["000c:00:00.0"]
    problems = asked(machine, tmp_path)["problems"]
    assert [problem["name"] for problem in problems] == ["azure"]
    assert "has 8 GPUs, the PCI bus of this VM shows 7" in problems[0]["message"]


def test_a_list_of_mig_instances_that_is_not_whole_is_told(tmp_path: Path) -> None:
    machine = load(match.MACHINES / "hgx-h100" / "machine.yml")
    machine["nvml"]["unprivileged"] = True
    assert [problem["name"] for problem in asked(machine, tmp_path)["problems"]] == ["mig_partial"]


@pytest.mark.parametrize("missing", [name for name in dir(FakeNvml) if name.startswith("nvmlDevice")])
def test_nvml_of_an_old_binding(missing: str) -> None:
    """A function that the binding lacks costs that value and no more."""
    fake = FakeNvml({"driver": "450.1", "cuda": 11000, "gpus": [dict(GPU, mig=[1, 1])]})

    class Old:
        def __getattr__(self, name: str) -> Any:
            if name == missing:
                raise AttributeError(name)
            return getattr(fake, name)

    gpus = nvml.read(Old())["gpus"]
    if missing == "nvmlDeviceGetMigMode":
        assert gpus[0]["mig"] is None, "what cannot be asked is not known"
    if missing not in ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"):
        assert gpus[0]["index"] == 0


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        ([], None),
        (["/usr/lib/python3/dist-packages/pynvml.py"], None),
        (["/usr/lib/python3/dist-packages/pynvml.py", "/usr/bin/python3"], "/usr/bin/python3"),
        (["/usr/local/lib/python3.12/dist-packages/pynvml.py", "/usr/bin/python3.12"], "/usr/bin/python3.12"),
        (["/usr/lib/python3.9/site-packages/pynvml.py", "/usr/bin/python3.9"], "/usr/bin/python3.9"),
    ],
)
def test_interpreter_with_binding(paths: list[str], wanted: str | None, tmp_path: Path) -> None:
    build({"files": dict.fromkeys(paths, "")}, tmp_path)
    assert nvml_access.interpreter_with_binding(HostFiles(str(tmp_path))) == wanted


@pytest.mark.parametrize("code", ["raise ImportError('x')", "print 'for Python 2'", "import ctypes; ctypes.CDLL('libnone.so')"])
def test_a_binding_that_cannot_be_imported_is_none(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build({"files": {"/usr/lib/python3/dist-packages/pynvml.py": "", "/usr/bin/python3": ""}}, tmp_path / "root")
    (tmp_path / "pynvml.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    asked: list[str] = []
    assert nvml_access.binding(HostFiles(str(tmp_path / "root")), lambda: False, asked.append) is None
    assert asked == ["/usr/bin/python3"]


# Time limits


def test_deadline_gives_the_answer_back() -> None:
    assert deadline.call(lambda: {"a": [1, None, "ü"]}, 5) == {"a": [1, None, "ü"]}


def test_deadline_passes_errors_on() -> None:
    with pytest.raises(deadline.ChildError, match="ZeroDivisionError"):
        deadline.call(lambda: 1 / 0, 5)


def test_deadline_when_the_child_dies() -> None:
    with pytest.raises(deadline.ChildError, match="died"):
        deadline.call(lambda: os._exit(3), 5)


def test_deadline_when_there_can_be_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("plugins.module_utils.forja.host.deadline.os.fork", fork)
    with pytest.raises(deadline.ChildError, match="no process"):
        deadline.call(lambda: 7, 5)


def test_deadline_when_children_are_ignored() -> None:
    """A program that ignores SIGCHLD hands that down to all that it starts."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert deadline.call(lambda: 7, 5) == 7
        with pytest.raises(deadline.DeadlineError):
            deadline.call(lambda: time.sleep(5), 0.1)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_deadline_leaves_nobody_holding_our_output() -> None:
    """Who reads our output must see its end although the child still sleeps."""
    code = (
        "import time, sys, os; sys.path.insert(0, '.')\n"
        "from plugins.module_utils.forja.host import deadline\n"
        "deadline.os.kill = lambda *a: None\n"  # as a child in uninterruptible sleep
        "try: deadline.call(lambda: time.sleep(8), 0.1)\n"
        "except deadline.DeadlineError as error: print(error)\n"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=7)
    assert "no answer" in done.stdout
    assert time.monotonic() - begin < 4


# Azure's metadata service


@pytest.fixture
def metadata_service() -> Iterator[tuple[str, list[Any]]]:
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            seen.append((self.path, self.headers.get("Metadata"), self.headers.get("X-Forwarded-For")))
            body = json.dumps({"vmSize": "Standard_NC24ads_A100_v4", "location": "westeurope"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_metadata_is_asked_past_the_proxy(
    metadata_service: tuple[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    build(load(match.MACHINES / "azure-nc-a100" / "machine.yml"), tmp_path / "root")
    answer = run_module(capsys, root=str(tmp_path / "root"), imds_endpoint=metadata_service[0])
    assert answer["ansible_facts"]["gpu"]["platform"]["azure"]["gpu_model"] == "NVIDIA A100 80GB PCIe"
    assert metadata_service[1] == [("/metadata/instance/compute?api-version=2021-02-01&format=json", "true", None)]


def test_metadata_is_not_asked_elsewhere(
    metadata_service: tuple[str, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(load(match.MACHINES / "h200-vm" / "machine.yml"), tmp_path / "root")
    run_module(capsys, root=str(tmp_path / "root"), imds_endpoint=metadata_service[0])
    assert metadata_service[1] == []


def test_metadata_of_a_dead_service_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(load(match.MACHINES / "azure-nv-a10-sixth" / "machine.yml"), tmp_path / "root")
    answer = run_module(capsys, root=str(tmp_path / "root"), imds_endpoint="http://127.0.0.1:9", imds_timeout=0.2)
    facts = answer["ansible_facts"]["gpu"]
    assert facts["platform"]["azure"]["size"] is None
    assert facts["recommended"]["driver"] == "open"
    assert "cannot tell a vGPU" in facts["problems"][0]["message"]


@pytest.mark.parametrize("endpoint", ["169.254.169.254", "", "http://[bad", "http://127.0.0.1:port", "gopher://127.0.0.1"])
def test_metadata_of_no_address_is_a_problem(endpoint: str) -> None:
    with pytest.raises(ForjaError):
        azure.fetch(endpoint, 0.2)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""])
def test_metadata_from_something_else(answer: bytes) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)

        def serve() -> None:
            caller, _address = listening.accept()
            caller.recv(4096)
            caller.sendall(answer)
            caller.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ForjaError):
            azure.fetch(f"http://127.0.0.1:{listening.getsockname()[1]}", 5)
        thread.join(5)


@pytest.mark.parametrize("text", ["", "[" * 100000, "null", "[]", '{"vmSize": 7, "securityProfile": "x"}', "<html>", '{"vmSize": null}'])
def test_metadata_rubbish(text: str) -> None:
    record, _problems = azure.record(lambda: text)
    assert record["gpu_model"] is None


# Any host at all

DEVICE = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(
            st.sampled_from([b"0x030200\n", b"0x068000\n", b"0x10de\n", b"0x1002\n", b"0x2330\n", b"0x2d05\n", b"-1\n"]),
            st.binary(max_size=12),
        )
        for name in ("class", "vendor", "device", "subsystem_vendor", "subsystem_device", "numa_node", "driver", "iommu_group", "physfn")
    },
)
ADDRESSES = st.from_regex(r"[0-9a-f]{4,5}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", fullmatch=True) | st.sampled_from(["rubbish", "0000:00:00"])
INTERESTING = (
    "/proc/sys/kernel/osrelease", "/proc/device-tree/compatible", "/proc/device-tree/model", "/etc/nv_tegra_release", "/proc/meminfo",
    "/sys/class/dmi/id/chassis_asset_tag", "/sys/class/dmi/id/sys_vendor", "/proc/cpuinfo", "/proc/1/cgroup", "/proc/driver/nvidia/version",
    "/sys/module/nvidia/version", "/var/lib/dpkg/status", "/lib/modules/6.1/modules.dep", "/lib/modules/6.1/kernel/nvidia.ko",
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "/etc/modprobe.d/x.conf", "/run/reboot-required.pkgs",
)  # fmt: skip
WORDS = st.sampled_from(
    [
        b"nvidia,p3767-0005\0nvidia,tegra999\0", b"# R99 (release), REVISION: 1.2.3.4, x", b"# R36 (release), REVISION: ., x", b"6.1",
        b"5.15-microsoft-WSL2", b"7783-7084-3265-9085-8269-3286-77",
        b"Package: nvidia-driver\nStatus: install ok installed\nVersion: :-\n\n",
        b"kernel/nvidia.ko: \n", b"\x7fELF\x02\x01" + b"\xff" * 80, b"NVRM version: NVIDIA 1.2 \n", b"",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    devices=st.dictionaries(ADDRESSES, DEVICE, max_size=6),
    files=st.dictionaries(st.sampled_from(INTERESTING), WORDS | st.binary(max_size=200), max_size=6),
)
def test_no_host_crashes_it(devices: dict[str, dict[str, bytes]], files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for address, content in devices.items():
            for name, value in content.items():
                place = Path(folder, "sys/bus/pci/devices", address, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                if name in ("driver", "iommu_group", "physfn"):
                    place.symlink_to("../../" + value.hex() if value else "/")
                else:
                    place.write_bytes(value)
        for path, value in files.items():
            Path(folder, path[1:]).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, path[1:]).write_bytes(value)
        facts = gpu_survey.survey(HostFiles(folder), match.means({}))
        json.dumps(facts, allow_nan=False).encode("utf-8")
        assert set(facts["recommended"]["reasons"]) == {"driver", "branch", "fabric_manager", "cuda_wheel"}
        for gpu in facts["gpus"]:
            assert gpu["vendor"] in ("nvidia", "amd", "intel")
            assert gpu["name"]


class Vanishing(HostFiles):
    """Every second question finds the file gone or forbidden, as with processes and devices that go away."""

    def __init__(self, root: str, how: type[OSError]) -> None:
        super().__init__(root)
        self.how = how
        self.turn = 0

    def _real(self, path: str, last: bool = True) -> str:
        self.turn += 1
        if self.turn % 2:
            raise self.how(13 if self.how is PermissionError else 5 if self.how is OSError else 2, "gone")
        return super()._real(path, last)


@pytest.mark.parametrize("how", [FileNotFoundError, PermissionError, OSError])
@pytest.mark.parametrize("name", match.NAMES)
def test_vanishing_files_are_no_failure(name: str, how: type[OSError], tmp_path: Path) -> None:
    machine = load(match.MACHINES / name / "machine.yml")
    build(machine, tmp_path)
    facts = gpu_survey.survey(Vanishing(str(tmp_path), how), match.means({}))
    assert "recommended" in facts


def test_python36_gives_the_same_facts(tmp_path: Path) -> None:
    """The oldest Python that hosts have (JetPack 4), for real, on every machine."""
    python = pythons.find("3.6")
    if python is None:
        pytest.skip("there is no Python 3.6 here; name one in FORJA_PYTHON36")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from forja.facts import survey\n"
        "from forja.host.files import HostFiles\n"
        "imds = json.loads(sys.argv[3])\n"
        "means = survey.Means(lambda: json.dumps(imds), None)\n"
        "print(json.dumps(survey.survey(HostFiles(sys.argv[2]), means)))\n"
    )
    for name in match.NAMES:
        machine = load(match.MACHINES / name / "machine.yml")
        build(machine, tmp_path / name)
        helpers = str(Path(match.MACHINES).parents[2] / "module_utils")
        done = subprocess.run(
            [python, "-B", "-c", code, helpers, str(tmp_path / name), json.dumps(machine.get("imds", {}))],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stderr}"
        without_nvml = {key: value for key, value in machine.items() if key != "nvml"}
        here = gpu_survey.survey(HostFiles(str(tmp_path / name)), match.means(without_nvml)._replace(no_nvml="not asked"))
        assert json.loads(done.stdout) == json.loads(json.dumps(here)), name
