# SPDX-License-Identifier: Apache-2.0
"""The NVML simulator over time: modes, users, resets and reboots, several processes at once, and what goes wrong on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.nvml.machine import Machine
from tests.lab.nvml.nvml_sim import board
from tests.unit.lab.nvml_words import (
    IN_USE,
    INSUFFICIENT_RESOURCES,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    SUCCESS,
    UNKNOWN,
    code,
    computes,
    create,
    create_compute,
    gpu,
    instances,
    mig_devices,
    placements,
    profile_info,
    remaining,
    where,
    where_compute,
)

Make = Callable[..., Machine]
REPO = Path(__file__).resolve().parents[3]
AMPERE, HOPPER = "a100-40gb", "h100-80gb-sxm"
G1, G2, G3, G4, G7 = 19, 14, 9, 5, 0
NOBODY = 65534


@pytest.fixture
def user() -> Iterator[int]:
    """A process that can be registered as a user of a GPU."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def mode(device: Any) -> list[int]:
    return list(pynvml.nvmlDeviceGetMigMode(device))


# --- modes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [AMPERE, HOPPER])
def test_an_idle_gpu_changes_its_mode_at_once(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    device = gpu()
    assert mode(device) == [0, 0]
    assert pynvml.nvmlDeviceSetMigMode(device, 1) == SUCCESS
    assert mode(device) == [1, 1]
    assert code(pynvml.nvmlDeviceSetMigMode, device, 2) == INVALID_ARGUMENT
    assert pynvml.nvmlDeviceSetMigMode(device, 0) == SUCCESS
    assert mode(device) == [0, 0]
    assert code(create, device, G1) == NOT_SUPPORTED


@pytest.mark.parametrize("key", [AMPERE, HOPPER])
def test_a_busy_gpu_keeps_its_mode_until_asked_again(nvml_machine: Make, user: int, key: str) -> None:
    machine = nvml_machine(key)
    device = gpu()
    machine.tool("process", "add", 0, user)
    assert pynvml.nvmlDeviceSetMigMode(device, 1) == IN_USE
    assert mode(device) == [0, 1]
    machine.tool("process", "remove", 0, user)
    assert mode(device) == [0, 1]
    assert pynvml.nvmlDeviceSetMigMode(device, 1) == SUCCESS
    assert mode(device) == [1, 1]


@pytest.mark.parametrize("key", [AMPERE, HOPPER])
def test_instances_hold_the_mode(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    device = gpu(mig=True)
    create(device, G3)
    assert pynvml.nvmlDeviceSetMigMode(device, 0) == IN_USE
    assert mode(device) == [1, 0]
    assert pynvml.nvmlDeviceSetMigMode(device, 1) == SUCCESS  # taken back
    assert mode(device) == [1, 1]
    assert len(instances(device, G3)) == 1


@pytest.mark.parametrize(("key", "status"), [(AMPERE, RESET_REQUIRED), (HOPPER, SUCCESS)])
def test_a_virtual_machine_cannot_reset_its_gpu(nvml_machine: Make, key: str, status: int) -> None:
    machine = nvml_machine(key, passthrough=True)
    device = gpu()
    assert pynvml.nvmlDeviceSetMigMode(device, 1) == status
    assert mode(device) == ([0, 1] if status else [1, 1])
    with pytest.raises(AssertionError, match="virtual machine"):
        machine.tool("reset", 0)
    machine.tool("reboot")
    assert mode(device) == ([1, 1] if key == AMPERE else [0, 0])


# --- resets and reboots --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "ampere", "hopper"), [("reboot", 1, 0), ("driver-reload", 1, 0), ("reset", 1, 1)])
def test_what_survives(nvml_machine: Make, what: str, ampere: int, hopper: int) -> None:
    """Ampere has the mode in the board, Hopper in the loaded driver; instances survive nothing."""
    machine = nvml_machine(gpus=[{"model": AMPERE, "address": "0000:07:00.0"}, {"model": HOPPER, "address": "0000:0f:00.0"}])
    devices = [gpu(index, mig=True) for index in (0, 1)]
    for device in devices:
        create(device, G3)
    machine.tool(what, *([0, 1] if what == "reset" else []))
    assert [mode(device) for device in devices] == [[ampere, ampere], [hopper, hopper]]
    for device in devices:
        pynvml.nvmlDeviceSetMigMode(device, 1)
        assert instances(device, G3) == []


def test_a_reset_brings_the_pending_mode(nvml_machine: Make, user: int) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu()
    machine.tool("process", "add", 0, user)
    pynvml.nvmlDeviceSetMigMode(device, 1)
    for command in (["reset", 0], ["driver-reload"]):
        with pytest.raises(AssertionError, match=rf"[Ii]n use.*{user}"):
            machine.tool(*command)
    machine.tool("process", "remove", 0, user)
    machine.tool("reset", "0000:07:00.0")
    assert mode(device) == [1, 1]
    assert [call["result"] for call in machine.tool("calls")["log"] if call["call"] == "gpuReset"] == [IN_USE, SUCCESS]


def test_linked_gpus_are_reset_together(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE, count=3, link_group=1)
    with pytest.raises(AssertionError, match=r"reset \[0, 1, 2\] together"):
        machine.tool("reset", 0, 1)
    assert machine.tool("reset", 0, 1, 2) is None


def test_the_state_outlives_its_programs(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    create_compute(create(device, G3), 2)
    before = [pynvml.nvmlDeviceGetUUID(mig) for mig in mig_devices(device)]
    pynvml.nvmlShutdown()
    assert run(machine, "print([pynvml.nvmlDeviceGetUUID(mig) for mig in mig_devices(gpu())])") == f"{before}\n"


# --- users ---------------------------------------------------------------------------------------------------------------


def test_a_user_holds_its_instance_and_no_other(nvml_machine: Make, user: int) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    used, free = create(device, G3), create(device, G3)
    held, other = create_compute(used, 0), create_compute(used, 0)
    machine.tool("process", "add", 0, user, "--instance", 2, "--ci", 0, "--memory", 500)
    assert code(pynvml.nvmlComputeInstanceDestroy, held) == IN_USE
    assert code(pynvml.nvmlComputeInstanceDestroy, other) == SUCCESS
    assert code(pynvml.nvmlGpuInstanceDestroy, used) == IN_USE
    assert code(pynvml.nvmlGpuInstanceDestroy, free) == SUCCESS
    assert where(create(device, G4))[0] == 1  # a user elsewhere does not disturb
    for handle in (device, mig_devices(device)[0]):
        (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        assert (process.pid, process.gpuInstanceId, process.computeInstanceId) == (user, 2, 0)
        assert process.usedGpuMemory == pynvml.nvmlDeviceGetMemoryInfo(handle).used == 500 << 20


def test_a_user_somewhere_on_an_instance_holds_all_of_it(nvml_machine: Make, user: int) -> None:
    machine = nvml_machine(AMPERE)
    used = create(gpu(mig=True), G3)
    parts = [create_compute(used, 0), create_compute(used, 0)]
    machine.tool("process", "add", 0, user, "--instance", 2)
    assert [code(pynvml.nvmlComputeInstanceDestroy, part) for part in parts] == [IN_USE, IN_USE]
    machine.tool("process", "remove", 0, user)
    assert [code(pynvml.nvmlComputeInstanceDestroy, part) for part in parts] == [SUCCESS, SUCCESS]


def test_the_first_instance_needs_an_idle_gpu(nvml_machine: Make, user: int) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    machine.tool("process", "add", 0, user)
    (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
    assert (process.pid, process.gpuInstanceId) == (user, 0xFFFFFFFF)
    assert code(create, device, G3) == IN_USE
    os.kill(user, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while pynvml.nvmlDeviceGetComputeRunningProcesses(device):  # nobody has waited for it: it is a zombie, and holds nothing
        assert time.monotonic() < deadline
    assert code(create, device, G3) == SUCCESS
    assert machine.tool("show")["gpus"][0]["processes"] == []


def test_only_what_exists_has_users(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    with pytest.raises(AssertionError, match="no process 4194305"):
        machine.tool("process", "add", 0, 4194305)
    with pytest.raises(AssertionError, match="no instance 3"):
        machine.tool("process", "add", 0, os.getpid(), "--instance", 3)
    with pytest.raises(AssertionError, match="no GPU 1"):
        machine.tool("process", "add", 1, os.getpid())


PRIVILEGED = """
device = gpu()
if os.geteuid() == 0:
    os.seteuid(%d)
calls = [
    (pynvml.nvmlDeviceSetMigMode, device, 0),
    (pynvml.nvmlDeviceSetPersistenceMode, device, 1),
    (create, device, 9),
    (create, device, 9, (0, 4)),
    (placements, device, 9),
    (remaining, device, 9),
    (instances, device, 9),
    (pynvml.nvmlDeviceGetGpuInstanceById, device, 2),
]
print([code(*call) for call in calls])
(mig,) = mig_devices(device)
free = [pynvml.nvmlDeviceGetMigMode, profile_info, pynvml.nvmlDeviceGetMaxMigDeviceCount, pynvml.nvmlDeviceGetName]
print([code(call, device) for call in free], code(pynvml.nvmlDeviceGetAttributes, mig))
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_only_root_manages_instances(nvml_machine: Make, allowed: bool) -> None:
    """Root, or whom the machine names as owner. Everybody may look at what there is."""
    stranger = NOBODY if os.geteuid() == 0 else os.geteuid()
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    create_compute(create(device, G3), 2)
    instance = pynvml.nvmlDeviceGetGpuInstanceById(device, 2)
    machine.simulator.give_to(stranger if allowed else 0)
    told = run(machine, PRIVILEGED % stranger).splitlines()
    results = [int(result) for result in told[0].strip("[]").split(", ")]
    assert results == ([SUCCESS, SUCCESS, SUCCESS, INSUFFICIENT_RESOURCES, *[SUCCESS] * 4] if allowed else [NO_PERMISSION] * 8)
    assert told[1] == "[0, 0, 0, 0] 0"
    assert where(instance)[0] == 2


# --- several processes ---------------------------------------------------------------------------------------------------

PRELUDE = "import os\nimport pynvml\nfrom tests.unit.lab.nvml_words import *\n"


def start(machine: Machine, program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-B", "-c", PRELUDE + program]
    return subprocess.Popen(command, env=machine.env, cwd=REPO, stdout=subprocess.PIPE, text=True)


def run(machine: Machine, program: str) -> str:
    process = start(machine, program)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0, program
    return out


RACE = """
device = gpu()
while os.path.exists({hold!r}):
    pass
made = []
for _ in range(200):
    if code(create, device, 19) == 0:
        made.append(1)
    for instance in instances(device, 19)[:1]:
        if code(pynvml.nvmlGpuInstanceDestroy, instance) == 0:
            made.append(-1)
print(sum(made))
"""


def test_processes_do_not_tread_on_each_other(nvml_machine: Make, tmp_path: Path) -> None:
    """Four of them make and destroy at random; what is left is what they say is left."""
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    hold = tmp_path / "hold"
    hold.touch()
    racers = [start(machine, RACE.format(hold=str(hold))) for _ in range(4)]
    hold.unlink()
    left = sum(int(racer.communicate(timeout=60)[0]) for racer in racers)
    assert [racer.returncode for racer in racers] == [0] * 4
    assert left == len(instances(device, G1)) == len(machine.tool("show")["gpus"][0]["instances"])
    counted = machine.tool("calls")
    assert counted["counts"]["nvmlInitWithFlags"] == 5
    assert sum(counted["counts"].values()) == counted["total"] == len(counted["log"]) + counted["lost"]


FORK = """
device = gpu(mig=True)
child = os.fork()
for _ in range(300):
    remaining(device, 19)
if child:
    print(os.waitpid(child, 0)[1])
"""


def test_a_fork_may_go_on_using_the_library(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    program = (
        "device = gpu(mig=True)\nchild = os.fork()\nfor _ in range(300): remaining(device, 19)\nif child: print(os.waitpid(child, 0)[1])"
    )
    assert run(machine, program) == "0\n"
    assert machine.tool("calls")["counts"]["nvmlDeviceGetGpuInstanceRemainingCapacity"] == 600


# --- the log of calls ----------------------------------------------------------------------------------------------------


def test_calls_are_counted_and_told_apart(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu()
    profile_info(device)
    mode(device)
    assert machine.tool("calls")["changing"] == 0
    machine.tool("calls", "--reset")
    pynvml.nvmlDeviceSetMigMode(device, 1)
    instance = create(device, G3)
    create_compute(instance, 2)
    counted = machine.tool("calls")
    assert counted["counts"] == {
        "nvmlDeviceSetMigMode": 1,
        "nvmlDeviceCreateGpuInstance": 1,
        "nvmlGpuInstanceCreateComputeInstance": 1,
    }
    assert (counted["total"], counted["changing"], counted["lost"]) == (3, 3, 0)
    assert [(call["gpu"], call["gi"], call["ci"], call["value"], call["result"]) for call in counted["log"]] == [
        (0, None, None, 1, SUCCESS),
        (0, 2, None, G3, SUCCESS),
        (0, 2, 0, 2, SUCCESS),
    ]
    assert {call["pid"] for call in counted["log"]} == {os.getpid()}


def test_the_log_keeps_the_latest_calls(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    gpu()
    for _ in range(16384):
        pynvml.nvmlDeviceGetCount()
    counted = machine.tool("calls")
    assert (counted["total"], counted["lost"], len(counted["log"])) == (16386, 2, 16384)
    assert {call["call"] for call in counted["log"]} == {"nvmlDeviceGetCount_v2"}


# --- faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "left"), [(False, 0), (True, 1)])
def test_the_nth_call_fails(nvml_machine: Make, after: bool, left: int) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    machine.tool("fault", "nvmlDeviceCreateGpuInstance", 2, "UNKNOWN", *(["--after"] if after else []))
    assert [code(create, device, profile) for profile in (G1, G2, G1)] == [SUCCESS, UNKNOWN, SUCCESS]
    assert (len(instances(device, G1)), len(instances(device, G2))) == (2, left)


def test_faults_count_what_they_are_told(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    machine.tool("fault", "any", 4, 15)
    assert [code(mode, device) for _ in range(6)] == [0, 0, 0, 15, 0, 0]
    machine.tool("fault", "changing", 2, "IN_USE", "--times", 2)
    results = [code(call, device, value) for call, value in [(create, G1), (remaining, G1)] * 4]
    assert results == [0, 0, IN_USE, 0, IN_USE, 0, 0, 0]
    machine.tool("fault", "nvmlDeviceGet*Mode", 1, "TIMEOUT", "--times", 0)
    assert [code(mode, device), code(pynvml.nvmlDeviceGetPersistenceMode, device), code(remaining, device, G1)] == [10, 10, 0]
    machine.tool("faults", "clear")
    assert code(mode, device) == SUCCESS
    with pytest.raises(AssertionError, match="no function is called"):
        machine.tool("fault", "nvmlDeviceGetNothing", 1, 999)
    with pytest.raises(AssertionError, match="no error of NVML"):
        machine.tool("fault", "any", 1, "BROKEN")


def test_starting_can_fail(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE)
    machine.tool("fault", "nvmlInit*", 1, "OPERATING_SYSTEM")
    assert [code(pynvml.nvmlInit), code(pynvml.nvmlDeviceGetCount), code(pynvml.nvmlInit)] == [17, 1, 0]


def test_a_mode_change_can_be_left_pending(nvml_machine: Make) -> None:
    machine = nvml_machine(HOPPER)
    device = gpu()
    machine.tool("fault", "nvmlDeviceSetMigMode", 1, "activation=NOT_SUPPORTED")
    assert pynvml.nvmlDeviceSetMigMode(device, 1) == NOT_SUPPORTED
    assert mode(device) == [0, 1]


def test_a_call_can_take_its_time(nvml_machine: Make) -> None:
    """The others are served meanwhile."""
    machine = nvml_machine(AMPERE)
    machine.tool("fault", "nvmlDeviceGetName", 1, "delay=2000")
    slow = start(machine, "device = gpu()\nprint(pynvml.nvmlDeviceGetName(device))")
    device = gpu()
    while "nvmlDeviceGetName" not in machine.tool("calls")["counts"]:
        assert slow.poll() is None
    assert mode(device) == [0, 0]
    assert slow.poll() is None
    assert slow.communicate(timeout=60)[0] == "NVIDIA A100-SXM4-40GB\n"


@pytest.mark.parametrize(("after", "left"), [(False, 0), (True, 1)])
def test_the_caller_can_be_killed(nvml_machine: Make, after: bool, left: int) -> None:
    """Its lock dies with it, and what it had done stays."""
    machine = nvml_machine(AMPERE)
    device = gpu(mig=True)
    machine.tool("fault", "changing", 1, "kill", *(["--after"] if after else []))
    process = start(machine, "create(gpu(), 9)")
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert len(instances(device, G3)) == left
    (killed,) = [call for call in machine.tool("calls")["log"] if call["pid"] == process.pid and call["changing"]]
    assert (killed["call"], killed["result"]) == ("nvmlDeviceCreateGpuInstance", None)
    assert code(create, device, G3) == SUCCESS


def test_a_reset_can_fail(nvml_machine: Make) -> None:
    machine = nvml_machine(AMPERE, count=2)
    device = gpu(mig=True)
    create(device, G7)
    machine.tool("fault", "gpuReset", 2, "UNKNOWN")
    with pytest.raises(AssertionError, match="GPU 1 could not be reset"):
        machine.tool("reset", 0, 1)
    assert len(instances(device, G7)) == 1


# --- whatever is done, the GPU stays whole -------------------------------------------------------------------------------


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]


def check(device: Any, profiles: dict[int, Any]) -> None:
    """What holds for every layout, asked through NVML alone."""
    found = {profile: [where(instance) for instance in instances(device, profile)] for profile in profiles}
    places = [place[1:] for made in found.values() for place in made]
    assert not any(overlap(one, other) for number, one in enumerate(places) for other in places[:number])
    assert len({place[0] for made in found.values() for place in made}) == len(places)
    for profile, made in found.items():
        possible = placements(device, profile)
        assert all(place[1:] in possible for place in made)
        assert len(made) <= profiles[profile].instanceCount
        free = [place for place in possible if not any(overlap(place, other) for other in places)]
        assert remaining(device, profile) <= min(len(free), profiles[profile].instanceCount - len(made))
    assert sum(profiles[profile].sliceCount * len(made) for profile, made in found.items()) <= max(
        info.sliceCount for info in profiles.values()
    )


MIG_MODELS = {key: model for key, model in board.models().items() if "gi_profiles" in model}


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_no_sequence_of_calls_breaks_a_gpu(nvml_machine: Make, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(MIG_MODELS)), label="model")
    leaf = data.draw(st.sampled_from([3, 7]), label="leaf") if MIG_MODELS[key]["compute_slices"] == 7 else None
    nvml_machine(key, computeless_leaf=leaf)
    device = gpu(mig=True)
    profiles = {info.id: info for info in profile_info(device).values()}
    known: dict[int, tuple[int, int]] = {}
    for _ in range(data.draw(st.integers(1, 12), label="steps")):
        profile = data.draw(st.sampled_from(sorted(profiles)), label="profile")
        place = data.draw(st.none() | st.sampled_from(placements(device, profile)), label="place")
        could = remaining(device, profile)
        result = code(create, device, profile, place)
        assert result in (SUCCESS, INSUFFICIENT_RESOURCES)
        # The capacity is true: without a wish, there is room if and only if it says so.
        assert bool(could) == (result == SUCCESS) if place is None else could or result != SUCCESS
        for instance in instances(device, profile):
            number, slot, size = where(instance)
            assert known.setdefault(number, (slot, size)) == (slot, size)  # an id means one place for ever
            fill_or_empty(instance, data)
        check(device, profiles)
        assert len(mig_devices(device)) <= pynvml.nvmlDeviceGetMaxMigDeviceCount(device)


def fill_or_empty(instance: Any, data: st.DataObject) -> None:
    """Make a compute instance, or destroy all of them and the GPU instance."""
    parts = data.draw(st.none() | st.sampled_from([0, 1, 2, 3, 4, 7]), label="compute")
    if parts is not None:
        assert code(create_compute, instance, parts) in (SUCCESS, INSUFFICIENT_RESOURCES, NOT_SUPPORTED)
    held = [compute for part in range(9) for compute in held_by(instance, part)]
    slots = [where_compute(compute)[1:] for compute in held]
    assert not any(overlap(one, other) for index, one in enumerate(slots) for other in slots[:index])
    if parts is None:
        for compute in held:
            pynvml.nvmlComputeInstanceDestroy(compute)
        pynvml.nvmlGpuInstanceDestroy(instance)


def held_by(instance: Any, part: int) -> list[Any]:
    return computes(instance, part) if code(computes, instance, part) == SUCCESS else []
