# SPDX-License-Identifier: Apache-2.0
"""The MIG code from end to end against the NVML simulator: what it does, and what it refuses."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.mig.apply import BusyError, ChangeError
from plugins.module_utils.forja.mig.config.export import as_yaml, exported
from plugins.module_utils.forja.mig.config.selection import ConfigError
from plugins.module_utils.forja.mig.journal import GpuState, Journal, JournalEntry, JournalError
from plugins.module_utils.forja.mig.node import Node, pictures
from plugins.module_utils.forja.mig.nvml.gateway import Gateway
from plugins.module_utils.forja.mig.nvml.session import GatewayError
from plugins.module_utils.forja.mig.plan import PlanError
from tests.lab.nvml.machine import Machine
from tests.unit.mig.host import (
    A100,
    BALANCED,
    GPU_IS_LOST,
    H100,
    OFF,
    SEVEN,
    T4,
    Boot,
    Host,
    ask_for_no_mig,
    drawn,
    entry,
    fork,
    wanted,
)

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
    assert planned.steps == done.steps


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


@pytest.mark.parametrize("first", [["1c", "2c"], ["2c", "1c"]])
def test_another_order_of_compute_instances_is_another_layout(boot: Boot, first: list[str]) -> None:
    host = boot(A100)
    host.apply(wanted(entry("all", [{"profile": "3g.20gb", "compute": first}])))
    other = wanted(entry("all", [{"profile": "3g.20gb", "compute": first[::-1]}]))
    assert host.apply(other).changed
    assert [f"{part['size']}c" for part in host.state()[0][1][0]["compute"]] == first[::-1]
    assert host.is_settled(other)


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


def test_the_picture_of_a_mode_that_is_taken_back_shows_what_stays(boot: Boot) -> None:
    host = boot(A100)
    host.apply(BALANCED)
    ask_for_no_mig(0)
    before, after = drawn(host, host.plan(BALANCED))
    assert "3g.20gb" in before
    assert before == after


def test_a_gpu_that_fell_off_the_bus_is_left_out(boot: Boot) -> None:
    host = boot({**A100, "count": 3})
    host.sim.fault("nvmlDeviceGetHandleByIndex_v2", 2, "code", GPU_IS_LOST)
    outcome = host.apply(SEVEN)
    assert "GPU 1 has fallen off the bus" in outcome.warnings[0]
    assert [host.sizes(number) for number in range(3)] == [[1] * 7, [], [1] * 7]
    host.sim.fault("nvmlDeviceGetHandleByIndex_v2", 2, "code", GPU_IS_LOST)
    with pytest.raises(ConfigError, match="no GPU 1.*Xid 79"):
        host.apply(wanted(entry([1], {"1g.5gb": 7})))


@pytest.mark.parametrize("answer", ["not supported", "nothing", "zero"])
def test_a_gpu_whose_memory_nvml_does_not_report(boot: Boot, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """As of a GB10, which shares the processor's memory: the names of its profiles cannot be computed. The others are changed."""
    host = boot({**A100, "count": 1}, {**H100, "count": 1})
    read = pynvml.nvmlDeviceGetMemoryInfo

    def memory(device: Any) -> Any:
        if pynvml.nvmlDeviceGetIndex(device) == 0:
            return read(device)
        if answer == "not supported":
            raise pynvml.NVMLError(3)
        return SimpleNamespace(total=None if answer == "nothing" else 0)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)
    outcome = host.apply(wanted(entry("all", {"1g.5gb": 7})))
    (warning,) = outcome.warnings
    assert warning.startswith("GPU 1 (0000:0f:00.0) is left out: NVML does not report its memory")
    assert (host.sizes(0), host.sizes(1)) == ([1] * 7, [])
    assert not host.apply(None, "all-1g.5gb").changed
    with pytest.raises(ConfigError, match="GPU 1 .* cannot do MIG: NVML does not report its memory"):
        host.apply(wanted(entry([1], {"1g.10gb": 7})))
    with Gateway(pynvml) as gateway:
        assert exported(gateway.gpus(), "x")["mig-configs"]["x"][0]["mig-devices"] == {"1g.5gb": 7}


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
        journal.write({"GPU-1": JournalEntry(GpuState(True, True, ()), ())})
        assert list(journal.entries()) == ["GPU-1"]
        with pytest.raises(JournalError, match=rf"pid {os.getpid()}"), Journal(host.folder, patience=0.2).reading():
            pass
    with Journal(host.folder).reading() as journal:
        assert list(journal.entries()) == ["GPU-1"]


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
        folder.chmod(0o1777)
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
