# SPDX-License-Identifier: Apache-2.0
"""The MIG code from end to end against the NVML simulator: what it does, what it refuses, and what is left when it fails."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from plugins.module_utils.forja.host_files import HostFiles
from plugins.module_utils.forja.mig import reset
from plugins.module_utils.forja.mig.change import BusyError, ChangeError
from plugins.module_utils.forja.mig.config import ConfigError
from plugins.module_utils.forja.mig.export import as_yaml, exported
from plugins.module_utils.forja.mig.gateway import Gateway
from plugins.module_utils.forja.mig.journal import Found, Journal, JournalError, Left, boot_id
from plugins.module_utils.forja.mig.node import Node, Outcome, pictures
from plugins.module_utils.forja.mig.plan import PlanError
from plugins.module_utils.forja.mig.session import GatewayError, StoppedError
from tests.lab.nvml.machine import Machine
from tests.unit.mig_host import (
    A100,
    BALANCED,
    GPU_IS_LOST,
    H100,
    H_SEVEN,
    IN_USE,
    INSUFFICIENT,
    OFF,
    SEVEN,
    T4,
    UNKNOWN,
    Boot,
    Host,
    entry,
    wanted,
)


@pytest.fixture
def job() -> Iterator[int]:
    """The pid of a process that stands for a colleague's job."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "train.py"])
    yield process.pid
    process.kill()
    process.wait()


# What it does


@pytest.mark.parametrize("model", [A100, H100])
def test_to_a_layout_and_back(boot: Boot, model: dict[str, Any]) -> None:
    host = boot({**model, "count": 2})
    assert host.apply(None, "all-balanced").changed
    assert host.sizes(0) == host.sizes(1) == [1, 1, 2, 4]
    host.changes()
    assert not host.apply(None, "all-balanced").changed
    assert host.changes() == 0
    assert host.apply(OFF).changed
    assert host.state() == [({"current": 0, "pending": 0}, [])] * 2
    assert not host.apply(OFF).changed


@pytest.mark.parametrize(("source", "label"), [(SEVEN, None), (None, "all-1g.5gb")])
def test_nothing_to_do_takes_few_calls(boot: Boot, source: Any, label: str | None) -> None:
    host = boot({**A100, "count": 8})
    host.apply(SEVEN)
    host.sim.calls(reset=True)
    host.apply(source, label)
    assert host.sim.calls()["total"] < 300


def test_a_plan_changes_nothing_and_comes_true(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    host.changes()
    planned = host.plan(BALANCED)
    assert host.changes() == 0
    done = host.apply(BALANCED)
    assert planned.changed
    assert planned.data == done.data
    assert planned.words == done.words


def test_the_instances_that_are_right_stay(boot: Boot) -> None:
    host = boot(A100)
    host.apply(BALANCED)
    before = host.uuids(0)
    host.apply(wanted(entry("all", {"1g.5gb": 3, "3g.20gb": 1})))
    assert len(before & host.uuids(0)) == 3  # two small ones and the large one; the middle one made room


def test_a_process_on_an_instance_that_stays_survives(boot: Boot, job: int) -> None:
    host = boot(A100)
    host.apply(BALANCED)
    large = next(instance for instance in host.state()[0][1] if instance["size"] == 4)
    host.sim.process_add("0", job, gi=large["id"], ci=0)
    host.apply(wanted(entry("all", {"1g.5gb": 3, "3g.20gb": 1})))
    assert [process["pid"] for process in host.sim.show()["gpus"][0]["processes"]] == [job]
    assert large in host.state()[0][1]


def test_compute_instances_share_a_gpu_instance(boot: Boot) -> None:
    host = boot(A100)
    assert host.apply(wanted(entry("all", {"1c.3g.20gb": 3}))).changed
    (instance,) = host.state()[0][1]
    assert [compute["size"] for compute in instance["compute"]] == [1, 1, 1]
    assert host.is_settled(wanted(entry("all", {"1c.3g.20gb": 3})))


def test_a_placement_and_an_order_of_compute_instances(boot: Boot) -> None:
    host = boot(A100)
    source = wanted(entry("all", [{"profile": "3g.20gb", "placement": 4, "compute": ["1c", "2c"]}, {"profile": "1g.5gb", "placement": 2}]))
    host.apply(source)
    found = [(one["start"], [part["size"] for part in one["compute"]]) for one in host.state()[0][1]]
    assert sorted(found) == [(2, [1]), (4, [1, 2])]
    assert host.is_settled(source)


@pytest.mark.parametrize("key", ["uuid", "address"])
def test_a_gpu_by_its_name(boot: Boot, key: str) -> None:
    host = boot({**A100, "count": 2})
    name = host.sim.show()["gpus"][1][key]
    host.apply(wanted(entry([name], {"7g.40gb": 1})))
    assert (host.sizes(0), host.sizes(1)) == ([], [8])


def test_a_board_whose_fourth_slice_is_missing(boot: Boot) -> None:
    """Its ids are other ones (DCGM's issue 138 has this listing); nothing may rest on them."""
    host = boot({**A100, "computeless_leaf": 3})
    host.apply(SEVEN)
    assert sorted(instance["id"] for instance in host.state()[0][1]) == [7, 8, 9, 11, 12, 13, 14]
    assert host.is_settled(SEVEN)


def test_h100_gets_all_multiprocessors_of_a_double_memory_instance(boot: Boot) -> None:
    """mig-parted takes the first compute profile of one slice there: 16 of the 26 multiprocessors."""
    host = boot(H100)
    host.apply(wanted(entry("all", {"1g.20gb": 1})))
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(pynvml.nvmlDeviceGetHandleByIndex(0), 0)
    assert pynvml.nvmlDeviceGetAttributes(device).multiprocessorCount == 26


def test_two_in_one_gpu_instance_take_no_more_than_their_share(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """go-nvml's issue 146 shows the large kind of one slice in a 2g.20gb too; the simulator does not offer it there."""
    host = boot(H100)
    asked = Gateway._compute_of

    def more(gateway: Gateway, *arguments: Any) -> Any:
        kinds = list(asked(gateway, *arguments))
        return [*kinds, type(kinds[0])(id=7, slices=1, multiprocessors=26)]

    monkeypatch.setattr(Gateway, "_compute_of", more)
    host.apply(wanted(entry("all", {})))
    created: list[int] = []
    create = pynvml.nvmlGpuInstanceCreateComputeInstanceWithPlacement

    def watch(handle: Any, kind: int, place: Any) -> Any:
        created.append(kind)
        return create(handle, kind, place)

    monkeypatch.setattr(pynvml, "nvmlGpuInstanceCreateComputeInstanceWithPlacement", watch)
    with pytest.raises(ChangeError):  # looking at what was made asks for the kind that the simulator does not know there
        host.apply(wanted(entry("all", {"1c.2g.20gb": 2})))
    assert created[:2] == [0, 0]


def test_a_compute_instance_is_told_its_place_only_where_there_is_a_choice(boot: Boot) -> None:
    """The call that tells it is the younger one."""
    host = boot(A100)
    host.sim.fault("nvmlGpuInstanceCreateComputeInstanceWithPlacement", 1, "code", 13, times=0)  # FUNCTION_NOT_FOUND
    host.sim.calls(reset=True)
    host.apply(SEVEN)
    assert "nvmlGpuInstanceCreateComputeInstanceWithPlacement" not in host.sim.calls(reset=True)["counts"]
    source = wanted(entry("all", [{"profile": "3g.20gb", "compute": ["1c", "2c"]}, {"profile": "3g.20gb", "compute": ["2c", "1c"]}]))
    host.apply(source)
    assert host.is_settled(source)


def test_the_devices_are_those_that_cuda_sees(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.apply(BALANCED)
    with Gateway(pynvml) as gateway:
        devices = Node(gateway, host.run).devices()
    assert {device["uuid"] for device in devices} == host.uuids(0) | host.uuids(1)
    assert sorted(device["profile"] for device in devices if device["gpu"] == 0) == ["1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"]


def test_export_is_a_file_that_leads_here_again(boot: Boot) -> None:
    host = boot({**A100, "count": 2}, T4)
    source = wanted(entry([0], {"1g.5gb": 3, "1c.3g.20gb": 2}), {"devices": [1], "mig-enabled": False})
    host.apply(source)
    with Gateway(pynvml) as gateway:
        told = exported(gateway.gpus(), "current")
    assert told["mig-configs"]["current"][0]["mig-devices"] == {"1c.3g.20gb": 2, "1g.5gb": 3}
    assert host.is_settled(told)
    assert host.is_settled(as_yaml(told))
    host.apply(OFF)
    host.apply(as_yaml(told))
    assert host.is_settled(source)


def test_the_picture_of_a_change(boot: Boot) -> None:
    host = boot(A100)
    host.apply(BALANCED)
    with Gateway(pynvml) as gateway:
        before, after = pictures(gateway, Node(gateway, host.run).plan(OFF, None, False, {}).plans)
    assert "3g.20gb" in before
    assert after.splitlines()[1].strip() == "MIG is disabled"


def drawn(host: Host, plan: Outcome) -> tuple[str, str]:
    with Gateway(pynvml) as gateway:
        return pictures(gateway, plan.plans)


def test_the_picture_of_a_mode_that_is_taken_back_shows_what_stays(boot: Boot) -> None:
    host = boot(A100)
    host.apply(BALANCED)
    ask_for_no_mig(0)
    before, after = drawn(host, host.plan(BALANCED))
    assert "3g.20gb" in before
    assert before == after


def test_the_picture_of_what_is_put_back_after_a_kill(boot: Boot, tmp_path: Path) -> None:
    host = boot({**A100, "count": 2})
    host.apply(BALANCED)
    found, _ = drawn(host, host.plan(OFF))
    host.sim.fault("changing", 3, "kill")
    assert dies(lambda: host.apply(SEVEN))
    host.sim.clear_faults()
    before, after = drawn(host, host.plan(only(BALANCED, 1)))
    assert before != after
    assert after == found[: len(after)]  # GPU 0, the first of two


def test_a_gpu_that_fell_off_the_bus_is_left_out(boot: Boot) -> None:
    host = boot({**A100, "count": 3})
    host.sim.fault("nvmlDeviceGetHandleByIndex_v2", 2, "code", GPU_IS_LOST)
    outcome = host.apply(SEVEN)
    assert "GPU 1 has fallen off the bus" in outcome.warnings[0]
    assert [host.sizes(number) for number in range(3)] == [[1] * 7, [], [1] * 7]
    host.sim.fault("nvmlDeviceGetHandleByIndex_v2", 2, "code", GPU_IS_LOST)
    with pytest.raises(ConfigError, match="no GPU 1.*Xid 79"):
        host.apply(wanted(entry([1], {"1g.5gb": 7})))


# What it refuses, before anything is touched


def test_a_busy_instance_is_refused_by_name(boot: Boot, job: int) -> None:
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    first = host.state()[1][1][0]
    host.sim.process_add("1", job, gi=first["id"], ci=0)
    before = host.state()
    host.changes()
    with pytest.raises(BusyError, match=rf"GPU 1, GPU instance {first['id']}: .*python.* \(pid {job}") as caught:
        host.apply(wanted(entry("all", {"7g.40gb": 1})))
    assert host.changes() == 0
    assert host.state() == before
    assert caught.value.blockers[0]["pid"] == job


def test_who_computes_through_mps_is_in_the_way_too(boot: Boot, job: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML has a list of its own for them; the simulator's is empty."""
    host = boot(A100)
    host.apply(SEVEN)
    inside = SimpleNamespace(pid=job, gpuInstanceId=host.state()[0][1][0]["id"], computeInstanceId=0)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMPSComputeRunningProcesses", lambda _device: [inside])
    with pytest.raises(BusyError, match=f"pid {job}"):
        host.apply(wanted(entry("all", {"7g.40gb": 1})))
    assert host.sizes() == [1] * 7


def test_a_binding_without_a_list_for_mps(boot: Boot, job: int, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot(A100)
    monkeypatch.delattr(pynvml, "nvmlDeviceGetMPSComputeRunningProcesses")
    host.sim.process_add("0", job)
    with pytest.raises(BusyError, match=f"pid {job}"):
        host.apply(SEVEN)


def test_a_mode_change_of_a_busy_gpu_is_refused(boot: Boot, job: int) -> None:
    host = boot(A100)
    host.sim.process_add("0", job)
    with pytest.raises(BusyError, match=f"pid {job}"):
        host.apply(SEVEN)
    assert host.changes() == 0


def test_who_merely_has_the_device_open_stands_in_the_way_of_a_mode_change(boot: Boot, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "proc/4711/fd").mkdir(parents=True)
    (tree / "proc/4711/fd/3").symlink_to("/dev/nvidia0")
    (tree / "proc/4711/comm").write_text("nv-hostengine\n")
    (tree / "proc/4711/cgroup").write_text("0::/system.slice/nvidia-dcgm.service\n")
    host = boot(A100, files=HostFiles(str(tree)))
    with pytest.raises(BusyError, match=r"nv-hostengine \(pid 4711, unit nvidia-dcgm.service\)"):
        host.apply(SEVEN)
    assert host.changes() == 0


def test_what_does_not_fit_is_refused_with_what_does(boot: Boot) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    host.changes()
    with pytest.raises(PlanError, match=r"GPU 0 \(NVIDIA A100-SXM4-40GB at 0000:07:00.0\): .*4g.20gb"):
        host.apply(wanted(entry("all", {"4g.20gb": 2})))
    assert host.changes() == 0


def test_one_run_at_a_time(boot: Boot) -> None:
    host = boot(A100)
    with Journal(host.folder), pytest.raises(JournalError, match=rf"pid {os.getpid()}"):
        host.apply(SEVEN)
    assert host.apply(SEVEN).changed
    assert Path(host.folder, "lock").stat().st_mode & 0o777 == 0o600  # flock asks no more than to read


def test_a_plan_does_not_take_a_run_under_way_for_a_killed_one(boot: Boot) -> None:
    host = boot(A100)
    with Journal(host.folder) as journal:
        journal.write({"GPU-1": Left(Found(True, True, ()), ())})
        assert list(journal.left()) == ["GPU-1"]
        with pytest.raises(JournalError, match=rf"pid {os.getpid()}"):
            Journal(host.folder, patience=0.2).left()
    assert list(Journal(host.folder).left()) == ["GPU-1"]


def test_waiting_for_another_run_ends_also_when_the_clock_is_set_back(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """At boot it often is."""
    host = boot(A100)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with Journal(host.folder), pytest.raises(JournalError, match="Another run"):
        host.apply(SEVEN)


def test_without_privilege(nvml_library: Path) -> None:
    """NVML answers NO_PERMISSION to what changes a GPU; root drops its rights for this, anybody else has none to drop."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o777)
        host = Host(Machine(folder, {"gpus": [A100]}, owner=1), folder)
        host.machine.enter()

        def powerless() -> None:
            if os.geteuid() == 0:
                os.seteuid(65534)
            try:
                host.apply(SEVEN)
            except (GatewayError, ChangeError) as error:
                os._exit(7 if "ermission" in str(error) else 8)

        assert os.waitstatus_to_exitcode(os.waitpid(fork(powerless), 0)[1]) == 7
        assert host.state() == [({"current": 0, "pending": 0}, [])]


@pytest.mark.parametrize(("source", "label"), [(SEVEN, None), (None, "all-1g.5gb")])
@pytest.mark.parametrize("enabled", [0, 1])
def test_a_driver_that_tells_profiles_only_in_mig_mode(boot: Boot, source: Any, label: str | None, enabled: int) -> None:
    """nvml.h allows it; then MIG is enabled by a run of its own. The neighbour's instances are seen all the same, and stay."""
    host = boot({**A100, "count": 2}, profiles_need_mode=True)
    host.apply(wanted(entry([enabled], {})))
    host.apply(wanted(entry([enabled], {"1g.5gb": 7})))
    before = host.state()[enabled]
    host.changes()
    with pytest.raises(PlanError, match=f"GPU {1 - enabled} .* only while MIG is enabled.*devices: .{1 - enabled}.") as caught:
        host.apply(source, label)
    assert host.changes() == 0
    host.apply(f"version: v1\nmig-configs: {{on: [{str(caught.value).split('the entry ')[1].split(', then')[0]}]}}")
    assert host.state()[enabled] == before
    host.apply(source, label)
    assert host.sizes(0) == host.sizes(1) == [1] * 7
    assert host.state()[enabled] == before


def test_what_such_a_driver_hides_after_a_kill_is_said(boot: Boot) -> None:
    host = boot({**A100, "count": 2}, profiles_need_mode=True)
    host.apply(wanted(entry([0], {})))
    host.apply(wanted(entry([0], {"1g.5gb": 7})))
    off = {"devices": [0], "mig-enabled": False}
    host.sim.fault("nvmlDeviceSetMigMode", 1, "kill", after=True)
    assert dies(lambda: host.apply(wanted(off)))
    with pytest.raises(PlanError, match="GPU 0 .* only while MIG is enabled"):
        host.apply(wanted({**off, "devices": [1]}))
    host.apply(wanted(off))
    assert not Path(host.folder, "journal.json").exists()


# Modes, resets, reboots


def test_a_mode_that_needs_a_reset_waits_for_it(boot: Boot) -> None:
    host = boot({**A100, "passthrough": True})
    first = host.apply(SEVEN)
    assert first.changed
    assert "reset of the GPU or a reboot" in first.reboot[0]
    second = host.apply(SEVEN)
    assert not second.changed
    assert second.reboot
    host.sim.reboot()
    assert host.apply(SEVEN).changed
    assert host.sizes() == [1] * 7
    assert not host.apply(SEVEN).reboot


def test_where_a_reset_is_refused_the_way_over_a_reboot_is_said(boot: Boot) -> None:
    """As in a virtual machine, whose GPU only its host can reset."""
    host = boot({**A100, "passthrough": True})
    with pytest.raises(ChangeError, match="(?s)Resetting 0000:07:00.0: .*Without `reset`.*reboot. Everything was put back"):
        host.apply(SEVEN, reset=True)
    assert host.state() == [({"current": 0, "pending": 0}, [])]


def test_a_reset_only_when_allowed_and_only_of_that_gpu(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.apply(wanted(entry([1], {"7g.40gb": 1})))
    neighbour = host.uuids(1)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)  # RESET_REQUIRED
    outcome = host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True)
    assert outcome.changed
    assert not outcome.reboot
    assert host.resets == ["0000:07:00.0"]
    assert host.sizes(0) == [1] * 7
    assert host.uuids(1) == neighbour


def test_gpus_of_one_fabric_are_reset_together(boot: Boot, tmp_path: Path) -> None:
    switch = tmp_path / "tree/sys/bus/pci/devices/0000:c4:00.0"
    switch.mkdir(parents=True)
    (switch / "vendor").write_text("0x10de\n")
    (switch / "class").write_text("0x068000\n")
    host = boot({**A100, "count": 2, "link_group": 1}, files=HostFiles(str(tmp_path / "tree")))
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    assert not host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True).reboot
    assert host.resets == ["0000:07:00.0,0000:0f:00.0"]
    assert host.sizes(0) == [1] * 7


def test_a_peer_that_would_be_reset_with_its_instances_stops_it(boot: Boot, tmp_path: Path) -> None:
    switch = tmp_path / "tree/sys/bus/pci/devices/0000:c4:00.0"
    switch.mkdir(parents=True)
    (switch / "vendor").write_text("0x10de\n")
    (switch / "class").write_text("0x068000\n")
    host = boot({**A100, "count": 2, "link_group": 1}, files=HostFiles(str(tmp_path / "tree")))
    host.apply(wanted(entry([1], {"7g.40gb": 1})))
    before = host.state()
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    with pytest.raises(ChangeError, match="GPU 1 hangs on the same NVSwitches.*put back"):
        host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True)
    assert host.state() == before
    assert host.resets == []


def test_a_reset_without_nvidia_smi_is_put_back(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot(A100)

    def missing(_argv: list[str]) -> tuple[int, str]:
        raise FileNotFoundError(2, "No such file or directory", "nvidia-smi")

    monkeypatch.setattr(host, "run", missing)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    with pytest.raises(ChangeError, match="nvidia-smi.*put back"):
        host.apply(SEVEN, reset=True)
    assert host.state() == [({"current": 0, "pending": 0}, [])]


@pytest.fixture
def stuck_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi that does not end by itself; the file gets its pid."""
    pid = tmp_path / "pid"
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return pid


def test_a_reset_that_hangs_is_given_up_and_put_back(boot: Boot, monkeypatch: pytest.MonkeyPatch, stuck_smi: Path) -> None:
    host = boot(A100)
    monkeypatch.setattr(reset, "SECONDS", 0.5)
    monkeypatch.setattr(host, "run", reset.run)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    with pytest.raises(ChangeError, match=r"Resetting 0000:07:00.0: nvidia-smi has not ended within 0.5 s.*put back"):
        host.apply(SEVEN, reset=True)
    assert host.state() == [({"current": 0, "pending": 0}, [])]
    assert not Path("/proc", stuck_smi.read_text().strip()).exists()


def test_a_reset_ends_with_us(monkeypatch: pytest.MonkeyPatch, stuck_smi: Path) -> None:
    """Else it would go on while everything is put back."""

    def stop(*_signal: Any) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(StoppedError):
        reset.run(["nvidia-smi", "--gpu-reset"])
    signal.signal(signal.SIGALRM, before)
    assert not Path("/proc", stuck_smi.read_text().strip()).exists()


def test_what_a_reset_says_and_its_exit_code() -> None:
    assert reset.run(["sh", "-c", "echo one; echo two >&2; exit 3"]) == (3, "one\ntwo\n")


def test_we_have_no_gpu_open_while_one_is_reset(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi refuses to reset a GPU that a client of NVML has open, and so it would for us. All handles are stale afterwards."""
    host = boot({**A100, "count": 2})
    host.apply(wanted(entry([1], {"1g.5gb": 7})))
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    reset = host.run

    def watched(argv: list[str]) -> tuple[int, str]:
        with pytest.raises(pynvml.NVMLError, match="Uninitialized"):
            pynvml.nvmlDeviceGetCount()
        host.sim.calls(reset=True)
        return reset(argv)

    monkeypatch.setattr(host, "run", watched)
    host.apply(BALANCED, reset=True)
    assert host.sizes(0) == host.sizes(1) == [1, 1, 2, 4]
    # The neighbour's mode stays; what goes there was looked up again.
    calls = [call["call"] for call in host.sim.calls()["log"] if call["gpu"] == 1]
    assert calls.index("nvmlGpuInstanceGetComputeInstances") < calls.index("nvmlComputeInstanceDestroy")


def test_a_gpu_that_a_reset_lost_is_not_taken_for_its_neighbour(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot({**A100, "count": 2})
    second = host.sim.show()["gpus"][1]

    def lost(argv: list[str]) -> tuple[int, str]:
        host.sim.boot({"gpus": [{**A100, "uuid": second["uuid"], "address": second["address"]}]}, os.geteuid())
        pynvml.nvmlInit()
        pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(0), 1)
        pynvml.nvmlShutdown()
        host.changes()
        return 0, ""

    monkeypatch.setattr(host, "run", lost)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    with pytest.raises(ChangeError, match="GPU 0: .*Not Found"):
        host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True)
    assert host.changes() == 0


def ask_for_no_mig(gpu: int) -> None:
    """Somebody does it by hand; with instances on the GPU it waits."""
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(gpu), 0) == IN_USE


def test_a_mode_that_waits_is_taken_back_without_touching_an_instance(boot: Boot) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    before = host.state()
    ask_for_no_mig(0)
    host.changes()
    assert host.apply(SEVEN).words == ["GPU 0: enable MIG"]
    assert host.changes() == 1
    assert host.state() == before


@pytest.mark.parametrize("model", [A100, H100])
def test_a_mode_that_waits_for_instances_to_go_needs_no_reboot(boot: Boot, model: dict[str, Any]) -> None:
    """Somebody asked for no MIG without removing them first."""
    host = boot(model)
    host.apply(None, "all-balanced")
    ask_for_no_mig(0)
    outcome = host.apply(OFF)
    assert not outcome.reboot
    assert outcome.words[-1] == "GPU 0: disable MIG"
    assert host.state() == [({"current": 0, "pending": 0}, [])]


@pytest.mark.parametrize("function", ["nvmlDeviceSetMigMode", "nvmlDeviceCreateGpuInstanceWithPlacement"])
def test_putting_back_a_mode_that_waited_touches_no_instance_that_was_right(boot: Boot, function: str) -> None:
    """The note of a GPU of which only the mode is wrong once knew nothing of its compute instances, and they were made anew."""
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    instances = host.state()[0][1]
    ask_for_no_mig(0)
    host.sim.calls(reset=True)
    host.sim.fault(function, 1, "code", UNKNOWN)
    with pytest.raises(ChangeError, match="put back as it was found.*after a reset of GPU 0") as caught:
        host.apply(wanted(entry([0], {"1g.5gb": 7}), entry([1], {"7g.40gb": 1})))
    assert caught.value.restored
    assert host.state()[0][1] == instances
    assert {call["call"] for call in host.sim.calls()["log"] if call["changing"] and call["gpu"] == 0} <= {"nvmlDeviceSetMigMode"}


def test_a_mode_that_we_asked_for_and_that_waits_is_taken_back(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    before = host.state()
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(wanted({"devices": [0], "mig-enabled": False}, entry([1], {"7g.40gb": 1})))
    assert caught.value.restored
    assert host.state() == before


@pytest.mark.parametrize("source", [OFF, SEVEN])
def test_what_took_a_reset_is_put_back_with_a_reset(boot: Boot, source: Any) -> None:
    host = boot({**A100, "count": 2})
    host.apply(source)
    before = host.state()
    target = BALANCED if source is OFF else wanted({"devices": [0], "mig-enabled": False}, entry([1], {"7g.40gb": 1}))
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16, times=0)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(target, reset=True)
    assert caught.value.restored
    assert host.state() == before


def test_what_cannot_be_put_back_without_a_reset_is_said(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.sim.fault("nvmlDeviceSetMigMode", 2, "activation", 16, times=0)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="failed too: the MIG mode of GPU 0 comes back only with a reset of the GPU or a reboot"):
        host.apply(wanted(entry([0], {"1g.5gb": 7})))


def test_a_mode_that_is_not_even_pending_is_a_failure(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reboot would be asked for at each run, for ever."""
    host = boot(A100)
    monkeypatch.setattr(Gateway, "set_mode", lambda *_arguments: 3)
    with pytest.raises(ChangeError, match="did not accept another MIG mode.*put back"):
        host.apply(SEVEN)


def test_a_terminal_that_is_gone_stops_nothing(boot: Boot) -> None:
    host = boot(A100)
    host.apply(SEVEN)

    def gone(_words: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with Journal(host.folder) as journal:
        assert host.session(lambda node: node.settle(BALANCED, None, False, journal, gone)).changed
    assert host.is_settled(BALANCED)


def test_what_took_every_step_and_is_not_there_is_a_failure(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    before = host.state()
    create = Gateway.create_compute
    lazy = iter([lambda *_arguments: None])
    monkeypatch.setattr(Gateway, "create_compute", lambda *arguments: next(lazy, create)(*arguments))
    with pytest.raises(ChangeError, match="took every step and is still not as wanted: add a compute instance of 2c.*put back"):
        host.apply(BALANCED)
    assert host.state() == before


def test_a_client_that_nobody_sees_leaves_no_pending_mode(boot: Boot) -> None:
    host = boot(A100)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", IN_USE)
    with pytest.raises(ChangeError, match="in use by somebody who cannot be seen.*put back") as caught:
        host.apply(SEVEN)
    assert caught.value.restored
    assert host.state() == [({"current": 0, "pending": 0}, [])]


@pytest.mark.parametrize(("model", "source"), [(A100, SEVEN), (H100, H_SEVEN)])
def test_after_a_reboot_all_is_made_again(boot: Boot, model: dict[str, Any], source: Any) -> None:
    host = boot(model)
    host.apply(source)
    before = host.uuids(0)
    host.sim.reboot()
    assert host.uuids(0) == set()
    assert host.apply(source).changed
    assert host.uuids(0) == before


# What is left when it fails


CHANGES = {
    "enable": (A100, OFF, SEVEN),
    "enable, no reset": (H100, OFF, H_SEVEN),
    "rearrange": (A100, SEVEN, BALANCED),
    "share": (A100, BALANCED, wanted(entry("all", {"1c.3g.20gb": 2, "2g.10gb": 2}))),
    "disable": (A100, BALANCED, OFF),
}
FAULTS = {
    "in use": ("code", IN_USE, False),
    "done, and said to have failed": ("code", UNKNOWN, True),
    "insufficient resources": ("code", INSUFFICIENT, False),
}


SHORT = {"enabled": True, "pending": True, "instances": [[1, 2]]}
NOTE_CUT_SHORT = json.dumps({"version": 2, "boot_id": "HERE", "gpus": {"GPU-1": {"found": SHORT, "heading": []}}})


def ready(boot: Boot, change: str, gpus: int = 2) -> tuple[Host, Any, list[Any], list[Any], int]:
    """The host before the change, what is wanted, the states before and after it, and how many calls it takes."""
    model, source, target = CHANGES[change]
    host = boot({**model, "count": gpus})
    host.apply(source)
    before = host.state()
    host.sim.calls(reset=True)
    host.apply(target)
    calls = int(host.sim.calls(reset=True)["total"])
    after = host.state()
    host.apply(source)
    assert host.state() == before
    return host, target, before, after, calls


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_failure_at_any_call_ends_in_the_old_layout_or_the_new(boot: Boot, change: str, fault: str) -> None:
    host, target, before, after, calls = ready(boot, change)
    action, code, late = FAULTS[fault]
    failures = 0
    for number in range(1, calls + 1):
        host.sim.fault("any", number, action, code, after=late)
        try:
            host.apply(target)
        except GatewayError:
            failures += 1
        except ChangeError as error:
            failures += error.restored
        host.sim.clear_faults()
        host.machine.enter()
        assert host.state() in (before, after), number
        assert not Path(host.folder, "journal.json").exists(), number
        if host.state() != before:
            host.apply(CHANGES[change][1])
            assert host.state() == before
    assert failures > calls // 2


@pytest.mark.parametrize("late", [False, True], ids=["before the call", "after its effect"])
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_kill_at_any_call_the_next_run_finishes(boot: Boot, change: str, late: bool) -> None:
    host, target, before, after, calls = ready(boot, change, gpus=1)
    for number in range(1, calls + 1):
        # After a call that changes nothing is before the next call.
        host.sim.fault("changing" if late else "any", number, "kill", after=late)
        if not dies(lambda: host.apply(target)):
            assert late, number
            assert number > 4
            break
        host.sim.clear_faults()
        host.apply(target)
        assert host.state() == after, number
        assert not Path(host.folder, "journal.json").exists()
        host.apply(CHANGES[change][1])
        assert host.state() == before


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_kill_at_any_call_a_run_that_fails_puts_back(boot: Boot, change: str) -> None:
    """The next run fails too: what it puts back is what the killed one found."""
    host, target, before, after, calls = ready(boot, change)
    for number in range(1, calls + 1, 5):
        host.sim.fault("any", number, "kill")
        assert dies(lambda: host.apply(target)), number
        host.sim.clear_faults()
        host.sim.fault("changing", 1, "code", UNKNOWN)
        with contextlib.suppress(ChangeError):
            host.apply(target)
        host.sim.clear_faults()
        assert host.state() in (before, after), number
        assert not Path(host.folder, "journal.json").exists(), number
        host.apply(CHANGES[change][1])
        assert host.state() == before


def test_what_a_killed_run_left_on_a_gpu_that_nobody_asks_for_now_is_put_back(boot: Boot) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange")
    host.sim.fault("changing", 8, "kill")
    assert dies(lambda: host.apply(target))
    host.sim.clear_faults()
    assert host.state() != before
    only_second = wanted(entry([1], {"7g.40gb": 1}))
    planned = host.plan(only_second)
    assert planned.data == host.apply(only_second).data
    assert host.state()[0] == before[0]
    assert host.sizes(1) == [8]


def only(target: Any, gpu: int) -> Any:
    """The same for one GPU."""
    return wanted(*[{**one, "devices": [gpu]} for one in target["mig-configs"]["wanted"]])


@pytest.mark.parametrize("late", [False, True], ids=["before the call", "after its effect"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_killed_run_left_is_known_for_what_it_is(boot: Boot, change: str, late: bool) -> None:
    host, target, before, after, calls = ready(boot, change)
    for number in range(1, calls + 1):
        host.sim.fault("changing", number, "kill", after=late)
        if not dies(lambda: host.apply(target)):
            assert number > 6
            break
        host.sim.clear_faults()
        outcome = host.apply(only(target, 1))
        assert all("what the run had found is put back" in warning for warning in outcome.warnings), number
        assert host.state() == [before[0], after[1]], number
        host.apply(CHANGES[change][1])


def killed_midway(boot: Boot, tmp_path: Path) -> tuple[Host, Host]:
    """A host whose run was killed while GPU 0 was changed from balanced to three small and a large one, and somebody else's hands."""
    host = boot({**A100, "count": 2})
    host.apply(BALANCED)
    host.sim.fault("changing", 3, "kill")  # the middle one is gone, the third small one not yet made
    assert dies(lambda: host.apply(wanted(entry("all", {"1g.5gb": 3, "3g.20gb": 1}))))
    host.sim.clear_faults()
    assert host.sizes(0) == [1, 1, 4]
    return host, Host(host.machine, tmp_path / "hands")


@pytest.mark.parametrize(
    "by_hand",
    [{"7g.40gb": 1}, {}, {"1g.5gb": 2}, {"1g.5gb": 2, "1c.3g.20gb": 1}, {"1g.5gb": 1, "1g.5gb+me": 1, "3g.20gb": 1}, None],
    ids=["another layout", "cleared", "one that was to stay is gone", "its compute instance is another", "a profile beside", "no MIG"],
)
def test_what_somebody_made_of_a_gpu_after_a_kill_is_theirs(boot: Boot, tmp_path: Path, by_hand: Any) -> None:
    host, hands = killed_midway(boot, tmp_path)
    hands.apply(wanted({"devices": [0], "mig-enabled": False} if by_hand is None else entry([0], by_hand)))
    theirs = host.state()[0]
    only_second = wanted(entry([1], {"7g.40gb": 1}))
    assert {step["gpu"] for step in host.plan(only_second).data} == {1}
    (warning,) = host.apply(only_second).warnings
    assert re.match(r"GPU 0 \(0000:07:00.0\): .*somebody has changed it since: .* stays there", warning)
    assert warning.endswith("The run had found 2 x 1g.5gb, 1 x 2g.10gb, 1 x 3g.20gb")
    assert host.state()[0] == theirs
    assert not Path(host.folder, "journal.json").exists()


def test_a_failure_puts_back_what_somebody_made_after_a_kill_and_not_what_was_before(boot: Boot, tmp_path: Path) -> None:
    host, hands = killed_midway(boot, tmp_path)
    hands.apply(wanted(entry([0], {"7g.40gb": 1})))
    theirs = host.state()
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 2, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back"):
        host.apply(SEVEN)
    assert host.state() == theirs


def test_what_a_second_killed_run_left_is_known_too(boot: Boot, tmp_path: Path) -> None:
    host, _hands = killed_midway(boot, tmp_path)
    host.sim.fault("changing", 8, "kill")
    assert dies(lambda: host.apply(wanted(entry([0], {"1g.5gb": 1, "2g.10gb": 3}))))
    host.sim.clear_faults()
    outcome = host.apply(wanted(entry([1], {"7g.40gb": 1})))
    (warning,) = outcome.warnings
    assert warning.endswith("had begun to change it; what the run had found is put back: 2 x 1g.5gb, 1 x 2g.10gb, 1 x 3g.20gb")
    assert host.sizes(0) == [1, 1, 2, 4]


def test_what_a_killed_run_finished_and_somebody_uses_is_left(boot: Boot, job: int) -> None:
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    host.sim.calls(reset=True)
    host.sim.fault("changing", 20, "kill")  # GPU 0 is done by then
    assert dies(lambda: host.apply(BALANCED))
    host.sim.clear_faults()
    assert host.sizes(0) == [1, 1, 2, 4]
    large = next(instance for instance in host.state()[0][1] if instance["size"] == 4)
    host.sim.process_add("0", job, gi=large["id"], ci=0)
    (warning,) = host.apply(only(SEVEN, 1)).warnings
    assert "it is finished, and in use" in warning
    assert (host.sizes(0), host.sizes(1)) == ([1, 1, 2, 4], [1] * 7)


def test_when_putting_back_fails_too_the_note_is_kept_and_the_next_run_puts_it_right(boot: Boot) -> None:
    host, target, before, after, _calls = ready(boot, "rearrange")
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT, times=0)
    with pytest.raises(ChangeError, match="failed too.*note of what was there is kept") as caught:
        host.apply(target)
    assert not caught.value.restored
    assert Path(host.folder, "journal.json").exists()
    host.sim.clear_faults()
    host.apply(target)
    assert host.state() == after
    assert before != after


def test_what_cannot_be_put_back_does_not_hold_up_the_rest(boot: Boot) -> None:
    """Of seven instances that went, those that can be made again are; each refusal is told."""
    host, _target, before, _after, _calls = ready(boot, "rearrange", gpus=1)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    # A call that fails counts for no other fault.
    host.sim.fault(create, 1, "code", INSUFFICIENT)  # the change,
    host.sim.fault(create, 2, "code", INSUFFICIENT)  # the second of seven instances that are put back
    host.sim.fault(create, 2, "code", UNKNOWN)  # and the third,
    host.sim.fault(create, 6, "code", INSUFFICIENT, times=0)  # also when tried again
    with pytest.raises(ChangeError, match="failed too.*slot 1.*Insufficient.*slot 2.*Unknown") as caught:
        host.apply(wanted(entry("all", {"7g.40gb": 1})))
    assert not caught.value.restored
    assert host.sizes() == [1] * 5
    host.sim.clear_faults()
    host.apply(SEVEN)
    assert host.state() == before


@pytest.mark.parametrize("late", [False, True])
def test_what_fails_once_while_it_is_put_back_is_tried_again(boot: Boot, late: bool) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange", gpus=1)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    host.sim.fault(create, 1, "code", INSUFFICIENT)
    host.sim.fault(create, 3, "code", UNKNOWN, after=late)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(target)
    assert caught.value.restored
    assert host.state() == before


def test_a_second_failure_at_any_call_of_putting_back_is_overcome(boot: Boot) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange", gpus=1)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    host.sim.fault(create, 1, "code", INSUFFICIENT)
    host.sim.calls(reset=True)
    with pytest.raises(ChangeError):
        host.apply(target)
    names = [call["call"] for call in host.sim.calls()["log"]]
    first = names.index(create) + 1
    for number in range(1, len(names) - first):  # the last is nvmlShutdown
        host.sim.fault(create, 1, "code", INSUFFICIENT)
        host.sim.fault("any", first + number, "code", UNKNOWN)
        with pytest.raises(ChangeError, match="put back"):
            host.apply(target)
        assert host.state() == before, number
        host.sim.clear_faults()


def test_what_cannot_be_removed_keeps_its_place_and_the_mode(boot: Boot) -> None:
    """Somebody is quick to use what was just made: it stays, and MIG is not switched off below it."""
    host = boot(A100)
    host.sim.fault("nvmlGpuInstanceCreateComputeInstance", 4, "code", INSUFFICIENT)
    host.sim.fault("nvmlComputeInstanceDestroy", 2, "code", IN_USE, times=0)
    host.sim.calls(reset=True)
    with pytest.raises(ChangeError, match="failed too: Removing compute instance") as caught:
        host.apply(BALANCED)
    assert not caught.value.restored
    assert len(host.sizes()) == 2
    assert host.sim.calls()["counts"]["nvmlDeviceSetMigMode"] == 1
    host.sim.clear_faults()
    host.apply(OFF)
    assert host.state() == [({"current": 0, "pending": 0}, [])]


def test_a_note_from_before_a_reboot_counts_no_more(boot: Boot) -> None:
    host, target, _before, after, _calls = ready(boot, "rearrange")
    host.sim.fault("changing", 8, "kill")
    assert dies(lambda: host.apply(target))
    host.sim.clear_faults()
    note = Path(host.folder, "journal.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "boot_id": "another"}))
    assert Journal(host.folder).left() == {}
    host.apply(target)
    assert host.state() == after
    assert not note.exists()


@pytest.mark.parametrize("text", ["", "{", '{"version": 7}', "[]", '{"version": 2, "boot_id": "HERE", "gpus": []}', NOTE_CUT_SHORT])
def test_a_note_that_cannot_be_understood_stops_the_run(boot: Boot, text: str) -> None:
    host = boot(A100)
    Path(host.folder).mkdir()
    Path(host.folder, "journal.json").write_text(text.replace("HERE", boot_id()))
    with pytest.raises(JournalError, match="cannot be understood.*remove the file"):
        host.apply(SEVEN)
    assert host.changes() == 0


@pytest.mark.parametrize(("call", "message"), [("fsync", "journal.json cannot be written .No space"), ("pwrite", None)])
def test_a_full_disk(boot: Boot, monkeypatch: pytest.MonkeyPatch, call: str, message: str | None) -> None:
    """Without a note nothing is changed; without our pid in the lock only others' messages are poorer."""
    host = boot(A100)

    def full(*_arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(JournalError, match=message) if message else contextlib.nullcontext():
        disk.setattr(os, call, full)
        assert host.apply(SEVEN).changed
    assert (host.changes() == 0) == bool(message)


def test_an_interrupt_puts_back(boot: Boot) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange")
    host.sim.fault("changing", 9, "delay", 400)

    def interrupted() -> None:
        try:
            host.apply(target)
        except KeyboardInterrupt:
            os._exit(7)

    child = fork(interrupted)
    time.sleep(0.2)
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert host.state() == before


def fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            work()
        finally:
            os._exit(0)
    return child


def dies(work: Callable[[], object]) -> bool:
    """Whether the work, in a process of its own, is killed."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1]) == -signal.SIGKILL
