# SPDX-License-Identifier: Apache-2.0
"""The NVML simulator's rules, driven through NVIDIA's own Python binding. Where a number comes from a real GPU, the test says so."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.lab.nvml.machine import Machine
from tests.lab.nvml.nvml_sim import board
from tests.lab.nvml.nvml_sim.layout import NAMES
from tests.unit.lab.nvml_words import (
    DRIVER_NOT_LOADED,
    IN_USE,
    INSUFFICIENT_RESOURCES,
    INVALID_ARGUMENT,
    NOT_FOUND,
    NOT_SUPPORTED,
    SUCCESS,
    VERSION_MISMATCH,
    code,
    computes,
    create,
    create_compute,
    gpu,
    ids,
    instances,
    mig_devices,
    placements,
    profile_info,
    remaining,
    where,
    where_compute,
)

Make = Callable[..., Machine]
MODELS = board.models()
MIG_MODELS = sorted(key for key, model in MODELS.items() if "gi_profiles" in model)
# Profile ids of GPUs with eight leaves.
G1, G1_ME, G1_DOUBLE, G2, G3, G4, G7 = 19, 20, 15, 14, 9, 5, 0


# --- the library ---------------------------------------------------------------------------------------------------------


def test_library_exports_what_it_counts(nvml_library: Path) -> None:
    told = subprocess.run(["nm", "-D", "--defined-only", str(nvml_library)], capture_output=True, text=True, check=True)
    exported = {line.split()[-1] for line in told.stdout.splitlines()}
    assert exported == set(NAMES) - {"gpuReset"} | {"nvmlErrorString", "forjaNvmlSimulator"}


def test_library_has_what_mig_parted_calls() -> None:
    """Which cannot be run here. These are the functions that 0.15 was seen calling, whichever of its commands runs."""
    init = {"nvmlInit_v2", "nvmlShutdown", "nvmlSystemGetNVMLVersion"}
    device = {"HandleByPciBusId_v2", "HandleByIndex_v2", "HandleByUUID", "MigMode", "MemoryInfo", "Count_v2", "Name", "UUID", "Index",
              "PciInfo_v3", "GpuInstanceProfileInfo", "GpuInstances"}
    inside = {"GetInfo", "GetComputeInstanceProfileInfo", "GetComputeInstances", "CreateComputeInstance", "Destroy"}
    changes = {"nvmlDeviceSetMigMode", "nvmlDeviceCreateGpuInstance", "nvmlDeviceCreateGpuInstanceWithPlacement",
               "nvmlComputeInstanceDestroy"}
    asked = init | changes | {"nvmlDeviceGet" + name for name in device} | {"nvmlGpuInstance" + name for name in inside}
    assert asked <= set(NAMES)


def test_library_needs_only_libc(nvml_library: Path) -> None:
    told = subprocess.run(["readelf", "-d", str(nvml_library)], capture_output=True, text=True, check=True)
    needed = [line.rpartition("[")[2].rstrip("]") for line in told.stdout.splitlines() if "(NEEDED)" in line]
    assert needed == ["libc.so.6"]
    assert "[libnvidia-ml.so.1]" in told.stdout


def test_without_a_machine_the_driver_is_not_loaded(nvml_machine: Make) -> None:
    assert code(pynvml.nvmlInit) == DRIVER_NOT_LOADED


def test_a_state_of_another_version_is_a_mismatch(nvml_machine: Make) -> None:
    machine = nvml_machine("a30-24gb")
    machine.state.write_bytes(machine.state.read_bytes()[:-1])
    assert code(pynvml.nvmlInit) == VERSION_MISMATCH


def test_only_the_last_shutdown_counts(nvml_machine: Make) -> None:
    nvml_machine("a30-24gb")
    assert code(pynvml.nvmlDeviceGetCount) == 1  # uninitialized
    pynvml.nvmlInit()
    pynvml.nvmlInit()
    pynvml.nvmlShutdown()
    assert pynvml.nvmlDeviceGetCount() == 1
    pynvml.nvmlShutdown()
    assert code(pynvml.nvmlDeviceGetCount) == 1


def test_versions_and_errors(nvml_machine: Make) -> None:
    nvml_machine(gpus=[{"model": "a30-24gb"}], driver="535.183.01", nvml="12.535.183.01", cuda=12020)
    pynvml.nvmlInit()
    assert pynvml.nvmlSystemGetDriverVersion() == "535.183.01"
    assert pynvml.nvmlSystemGetNVMLVersion() == "12.535.183.01"
    assert pynvml.nvmlSystemGetCudaDriverVersion() == 12020
    assert pynvml.nvmlErrorString(IN_USE) == "In use by another client"
    assert pynvml.nvmlErrorString(INSUFFICIENT_RESOURCES) == "Insufficient Resources"


# --- GPUs ----------------------------------------------------------------------------------------------------------------


def test_gpus_are_in_the_order_of_their_addresses(nvml_machine: Make) -> None:
    nvml_machine(gpus=[{"model": "t4", "address": "0001:00:00.0"}, {"model": "l40s", "address": "0000:c1:00.0"}])
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    assert [pynvml.nvmlDeviceGetName(handle) for handle in handles] == ["NVIDIA L40S", "Tesla T4"]
    assert [pynvml.nvmlDeviceGetIndex(handle) for handle in handles] == [0, 1]
    assert code(pynvml.nvmlDeviceGetHandleByIndex, 2) == INVALID_ARGUMENT


@pytest.mark.parametrize("address", ["0000:41:00.0", "00000000:41:00.0", "00000000:41:00.0".upper(), "41:00.0"])
def test_a_gpu_is_found_by_its_address(nvml_machine: Make, address: str) -> None:
    nvml_machine("a100-40gb", address="0000:41:00.0")
    pynvml.nvmlInit()
    info = pynvml.nvmlDeviceGetPciInfo(pynvml.nvmlDeviceGetHandleByPciBusId(address.encode()))
    assert (info.busId, info.busIdLegacy) == ("00000000:41:00.0", "0000:41:00.0")
    assert (info.pciDeviceId, info.pciSubSystemId) == (0x20B010DE, 0x134F10DE)
    assert code(pynvml.nvmlDeviceGetHandleByPciBusId, b"0000:42:00.0") == NOT_FOUND


def test_a_gpu_is_found_by_its_uuid(nvml_machine: Make) -> None:
    machine = nvml_machine("h200-141gb", count=2)
    pynvml.nvmlInit()
    for index, shown in enumerate(machine.tool("show")["gpus"]):
        handle = pynvml.nvmlDeviceGetHandleByUUID(shown["uuid"].encode())
        assert (pynvml.nvmlDeviceGetIndex(handle), pynvml.nvmlDeviceGetUUID(handle)) == (index, shown["uuid"])
    assert code(pynvml.nvmlDeviceGetHandleByUUID, b"GPU-none") == NOT_FOUND


@pytest.mark.parametrize("key", sorted(MODELS))
def test_every_model_describes_itself(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    device = gpu()
    assert pynvml.nvmlDeviceGetName(device) == MODELS[key]["products"][0]["name"]
    assert pynvml.nvmlDeviceGetMemoryInfo(device).total == board.total_memory(MODELS[key]) << 20
    assert pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2).total == board.total_memory(MODELS[key]) << 20
    assert pynvml.nvmlDeviceGetArchitecture(device) == board.ARCHITECTURES[MODELS[key]["architecture"]]
    assert code(pynvml.nvmlDeviceGetMigMode, device) == (SUCCESS if key in MIG_MODELS else NOT_SUPPORTED)


def test_monitors_get_constant_readings(nvml_machine: Make) -> None:
    """Of whole GPUs. A MIG device has none, and in MIG mode utilisation means nothing, as on real ones."""
    nvml_machine("a100-40gb")
    device = gpu()
    assert pynvml.nvmlDeviceGetTemperature(device, 0) == 30
    assert pynvml.nvmlDeviceGetPowerUsage(device) < pynvml.nvmlDeviceGetEnforcedPowerLimit(device)
    assert pynvml.nvmlDeviceGetUtilizationRates(device).gpu == 0
    assert pynvml.nvmlDeviceGetClockInfo(device, 2) == pynvml.nvmlDeviceGetSupportedMemoryClocks(device)[0]
    assert code(pynvml.nvmlDeviceGetClockInfo, device, 4) == code(pynvml.nvmlDeviceGetFanSpeed, device) == NOT_SUPPORTED
    assert pynvml.nvmlDeviceGetCpuAffinity(device, 1)[0] & 1
    pynvml.nvmlDeviceSetMigMode(device, 1)
    create_compute(create(device, G1), 0)
    assert code(pynvml.nvmlDeviceGetUtilizationRates, device) == NOT_SUPPORTED
    assert code(pynvml.nvmlDeviceGetTemperature, mig_devices(device)[0], 0) == NOT_SUPPORTED
    pynvml.nvmlDeviceSetPersistenceMode(device, 1)
    assert pynvml.nvmlDeviceGetPersistenceMode(device) == 1


# --- profiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", MIG_MODELS)
def test_profiles_are_those_of_the_table(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    device, model = gpu(mig=True), MODELS[key]
    found = profile_info(device)
    assert sorted(found) == sorted(profile["nvml_profile"] for profile in model["gi_profiles"])
    for profile in model["gi_profiles"]:
        info = found[profile["nvml_profile"]]
        assert (info.id, info.name) == (profile["id"], f"MIG {profile['name']}")
        assert (info.sliceCount, info.instanceCount) == (profile["slices"], profile["max_instances"])
        assert profile["memory_mb"] in (None, info.memorySizeMB)
        assert profile["sm"] in (None, info.multiprocessorCount)
        assert placements(device, info.id) == [(place["start"], place["size"]) for place in profile["placements"]]
        assert remaining(device, info.id) == profile["max_instances"]


def computed_name(memory_mib: int, total_mib: int, slices: int) -> str:
    """The name that NVIDIA's Go library computes, in whole numbers."""
    eighths = -(-memory_mib * 8 // total_mib)
    gigabytes = (eighths * -(-total_mib // 1024) * 2 + 8) // 16
    return f"{slices}g.{gigabytes}gb"


@pytest.mark.parametrize("key", MIG_MODELS)
def test_memory_gives_the_name_even_where_it_was_unknown(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    for info in profile_info(gpu()).values():
        assert info.name.startswith(f"MIG {computed_name(info.memorySizeMB, board.total_memory(MODELS[key]), info.sliceCount)}")


def test_index_and_id_are_different_numbers(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    assert code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, device, 5) == NOT_SUPPORTED
    assert code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, device, 17) == NOT_SUPPORTED
    assert code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, device, 18) == INVALID_ARGUMENT
    assert code(create, device, 1) == INVALID_ARGUMENT  # an index, but the id of nothing
    assert where(create(device, G4))[2] == 4


def test_all_forms_of_a_profile_say_the_same(nvml_machine: Make) -> None:
    nvml_machine("rtx-pro-6000-blackwell-96gb")
    device = gpu()
    one = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(device, 11, version=1)
    two = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(device, 11)
    assert (one.id, one.sliceCount, one.memorySizeMB, one.encoderCount) == (two.id, two.sliceCount, two.memorySizeMB, two.encoderCount)

    class Third(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint) for name in ("version", "id", "slices", "count", "sm", "ce", "dec", "enc", "jpeg", "ofa")]
        _fields_ += [("memory", ctypes.c_ulonglong), ("name", ctypes.c_char * 96), ("capabilities", ctypes.c_uint)]

    third = Third(version=ctypes.sizeof(Third) | 3 << 24)
    ask = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetGpuInstanceProfileInfoV")
    assert ask(device, 11, ctypes.byref(third)) == SUCCESS
    assert (third.id, third.slices, third.enc, third.name, third.capabilities) == (35, 2, 2, b"MIG 2g.48gb+gfx", 2)
    by_id = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetGpuInstanceProfileInfoByIdV")
    again = pynvml.c_nvmlGpuInstanceProfileInfo_v2_t()
    assert by_id(device, 35, ctypes.byref(again)) == SUCCESS
    assert again.name == two.name
    assert by_id(device, 11, ctypes.byref(again)) == INVALID_ARGUMENT
    third.version = 7
    assert ask(device, 11, ctypes.byref(third)) == INVALID_ARGUMENT


def test_old_drivers_lack_newer_profiles(nvml_machine: Make) -> None:
    nvml_machine(gpus=[{"model": "a100-40gb"}], driver="515.86.01")
    assert sorted(profile_info(gpu())) == [0, 1, 2, 3, 4, 7]


@pytest.mark.parametrize(("need", "result"), [(False, SUCCESS), (True, NOT_SUPPORTED)])
def test_profiles_without_the_mode(nvml_machine: Make, need: bool, result: int) -> None:
    nvml_machine(gpus=[{"model": "a100-40gb"}], profiles_need_mode=need)
    device = gpu()
    assert code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, device, 0) == result
    assert code(placements, device, G1) == result


@pytest.mark.parametrize("key", ["t4", "rtx-3090", "l40s"])
def test_gpus_without_mig_refuse_all_of_it(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    device = gpu()
    assert profile_info(device) == {}
    assert code(pynvml.nvmlDeviceSetMigMode, device, 1) == NOT_SUPPORTED
    assert code(create, device, G1) == NOT_SUPPORTED
    assert code(instances, device, G1) == NOT_SUPPORTED
    assert mig_devices(device) == []


# --- GPU instances -------------------------------------------------------------------------------------------------------

# What real GPUs listed: model, compute-less leaf, profiles in the order of creation, ids, and starts where the listing has them.
LISTINGS: dict[str, tuple[str, int | None, list[int], list[int], list[int] | None]] = {
    "MIG User Guide, seven 1g": ("a100-40gb", 7, [G1] * 7, [13, 11, 12, 7, 8, 9, 10], [6, 4, 5, 0, 1, 2, 3]),
    "MIG User Guide, 1g, 2g, 4g": ("a100-40gb", 7, [G1, G2, G4], [13, 5, 1], [6, 4, 0]),
    "MIG User Guide, two 3g": ("a100-40gb", 7, [G3, G3], [2, 1], None),
    "OpenShift, all-1g.5gb": ("a100-40gb", 3, [G1] * 7, [9, 7, 8, 11, 12, 13, 14], [6, 4, 5, 0, 1, 2, 3]),
    "H100 PCIe, seven 1g": ("h100-80gb-pcie", 3, [G1] * 7, [9, 7, 8, 11, 12, 13, 14], [6, 4, 5, 0, 1, 2, 3]),
    "ESXi, 3g, 1g, 2g, 1g": ("a100-40gb", 3, [G3, G1, G2, G1], [1, 11, 6, 12], [4, 0, 2, 1]),
    "a blog, 4g, 2g, 1g": ("a100-40gb", 3, [G4, G2, G1], [2, 3, 9], [0, 4, 6]),
    "DCGM issue 138, GPU 0": ("a100-80gb", 7, [G3, G2, G1, G1], [2, 3, 9, 10], [4, 0, 2, 3]),
    "DCGM issue 138, GPU 1": ("a100-80gb", 3, [G3, G2, G1, G1], [1, 5, 13, 14], [4, 0, 2, 3]),
    "a blog, 4g on a leaf-3 board": ("a100-80gb", 3, [G4], [2], None),
    "RTX PRO 6000 Max-Q, 1g": ("rtx-pro-6000-blackwell-96gb", None, [14], [3], None),
    # By the same rule, without a listing.
    "RTX PRO 6000, four 1g": ("rtx-pro-6000-blackwell-96gb", None, [14] * 4, [3, 4, 5, 6], [0, 3, 6, 9]),
    "A30, 2g and two 1g": ("a30-24gb", None, [5, 14, 14], [1, 5, 6], [0, 2, 3]),
}


@pytest.mark.parametrize("name", sorted(LISTINGS))
def test_ids_are_those_of_real_listings(nvml_machine: Make, name: str) -> None:
    key, leaf, profiles, wanted, starts = LISTINGS[name]
    nvml_machine(key, computeless_leaf=leaf)
    device = gpu(mig=True)
    made = [where(create(device, profile)) for profile in profiles]
    assert [one[0] for one in made] == wanted
    assert starts in (None, [one[1] for one in made])


@pytest.mark.parametrize("leaf", [3, 7])
def test_boards_offer_the_same_placements(nvml_machine: Make, leaf: int) -> None:
    """Only the ids tell which half of a board lacks a compute slice: NVML counts the complete half first."""
    nvml_machine("a100-40gb", computeless_leaf=leaf)
    device = gpu(mig=True)
    for profile in MODELS["a100-40gb"]["gi_profiles"]:
        assert placements(device, profile["id"]) == [(place["start"], place["size"]) for place in profile["placements"]]
    assert where(create(device, G4, (0, 4)))[0] == (1 if leaf == 7 else 2)


def test_an_id_is_a_function_of_the_placement(nvml_machine: Make) -> None:
    nvml_machine("a30-24gb")
    device = gpu(mig=True)
    found = {}
    for profile in (14, 5, 0):
        for place in placements(device, profile):
            instance = create(device, profile, place)
            found[place] = where(instance)[0]
            pynvml.nvmlGpuInstanceDestroy(instance)
    assert found == {(0, 4): 0, (0, 2): 1, (2, 2): 2, (0, 1): 3, (1, 1): 4, (2, 1): 5, (3, 1): 6}


def test_a_wrong_place_is_not_a_full_one(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    create(device, G3, (4, 4))
    assert code(create, device, G2, (1, 2)) == INVALID_ARGUMENT
    assert code(create, device, G2, (6, 2)) == INVALID_ARGUMENT  # there is compute for one slice only
    assert code(create, device, G2, (4, 2)) == INSUFFICIENT_RESOURCES
    assert where(create(device, G2, (2, 2))) == (4, 2, 2)


def test_capacity_follows_what_exists(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    create(device, G3, (4, 4))
    assert [remaining(device, profile) for profile in (G1, G1_ME, G1_DOUBLE, G2, G3, G4, G7)] == [4, 1, 2, 2, 1, 1, 0]
    create(device, G1_ME)
    assert [remaining(device, profile) for profile in (G1, G1_ME, G1_DOUBLE, G2, G3, G4, G7)] == [3, 0, 1, 1, 0, 0, 0]
    assert code(create, device, G1_ME) == code(create, device, G7) == INSUFFICIENT_RESOURCES


def test_4g_and_3g_fit_together(nvml_machine: Make) -> None:
    nvml_machine("a100-80gb")
    assert ids(gpu(mig=True), G4, G3) == [1, 2]


def test_engines_are_a_limit(nvml_machine: Make) -> None:
    """All media engines in one instance leave none for others, which must then be of a kind without."""
    nvml_machine("rtx-pro-6000-blackwell-96gb")
    device = gpu(mig=True)
    create(device, 65)  # 1g.24gb+me.all
    assert [remaining(device, profile) for profile in (14, 21, 47, 64, 66, 67)] == [0, 0, 0, 0, 1, 3]
    assert code(create, device, 14) == INSUFFICIENT_RESOURCES
    assert ids(device, 67, 67, 67) == [4, 5, 6]


def test_one_jpeg_engine_serves_one_instance(nvml_machine: Make) -> None:
    nvml_machine("a30-24gb")
    device = gpu(mig=True)
    create(device, 21)  # 1g.6gb+me
    assert (remaining(device, 6), remaining(device, 5)) == (0, 1)


def test_instances_are_found_again(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    made = {where(create(device, profile)): profile for profile in (G2, G1, G1)}
    for place, profile in made.items():
        assert place in [where(instance) for instance in instances(device, profile)]
        assert where(pynvml.nvmlDeviceGetGpuInstanceById(device, place[0])) == place
    assert instances(device, G3) == []
    assert code(instances, device, 77) == INVALID_ARGUMENT
    assert code(pynvml.nvmlDeviceGetGpuInstanceById, device, 0) == NOT_FOUND


def test_a_destroyed_instance_stays_unknown(nvml_machine: Make) -> None:
    """Its handle is not that of the next one at the same place."""
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    instance = create(device, G3)
    compute = create_compute(instance, 2)
    (mig,) = mig_devices(device)
    assert code(pynvml.nvmlGpuInstanceDestroy, instance) == IN_USE  # compute instances first
    pynvml.nvmlComputeInstanceDestroy(compute)
    pynvml.nvmlGpuInstanceDestroy(instance)
    create_compute(create(device, G3), 2)
    assert code(pynvml.nvmlGpuInstanceGetInfo, instance) == INVALID_ARGUMENT
    assert code(pynvml.nvmlComputeInstanceGetInfo, compute) == INVALID_ARGUMENT
    assert code(pynvml.nvmlDeviceGetUUID, mig) == INVALID_ARGUMENT


# --- compute instances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", MIG_MODELS)
def test_compute_profiles_are_those_of_the_table(nvml_machine: Make, key: str) -> None:
    nvml_machine(key)
    device = gpu(mig=True)
    for profile in MODELS[key]["gi_profiles"]:
        instance = create(device, profile["id"])
        known = {part["id"]: part for part in profile["ci_profiles"]}
        for number in range(9):
            if number not in known:
                assert code(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, number, 0) == NOT_SUPPORTED
                continue
            info, part = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, 0), known[number]
            assert (info.id, info.sliceCount, info.instanceCount) == (number, part["slices"], part["max_instances"])
            assert part["sm"] in (None, info.multiprocessorCount)
            assert info.name == f"MIG {part['name']}"
            old = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, 0, version=1)
            assert (old.id, old.multiprocessorCount) == (number, info.multiprocessorCount)
        assert code(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, 9, 0) == INVALID_ARGUMENT
        assert code(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, instance, 0, 1) == INVALID_ARGUMENT
        pynvml.nvmlGpuInstanceDestroy(instance)


# What real GPUs made: within a 3g and the whole A100, in this order. Starts as listed.
@pytest.mark.parametrize(
    ("parent", "parts", "starts"), [(G3, [0, 0, 0], [0, 1, 2]), (G3, [0, 1], [0, 1]), (G4, [0, 1], [0, 2]), (G7, [0, 1, 2], [0, 2, 4])]
)
def test_ampere_takes_the_lowest_place(nvml_machine: Make, parent: int, parts: list[int], starts: list[int]) -> None:
    nvml_machine("a100-40gb")
    instance = create(gpu(mig=True), parent)
    made = [where_compute(create_compute(instance, part)) for part in parts]
    assert [(one[0], one[1]) for one in made] == list(enumerate(starts))


@pytest.mark.parametrize(("parent", "parts", "starts"), [(G3, [0, 1], [2, 0]), (G4, [0, 1, 0], [0, 2, 1]), (G7, [0, 2, 1], [6, 0, 4])])
def test_hopper_keeps_room_for_larger_parts(nvml_machine: Make, parent: int, parts: list[int], starts: list[int]) -> None:
    nvml_machine("h100-80gb-sxm")
    instance = create(gpu(mig=True), parent)
    assert [where_compute(create_compute(instance, part))[1] for part in parts] == starts


def test_the_lowest_free_number_is_a_compute_instances_id(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    instance = create(gpu(mig=True), G3)
    first, second, third = (create_compute(instance, 0) for _ in range(3))
    assert [where_compute(one)[0] for one in (first, second, third)] == [0, 1, 2]
    assert code(create_compute, instance, 0) == INSUFFICIENT_RESOURCES
    pynvml.nvmlComputeInstanceDestroy(second)
    assert [where_compute(one)[0] for one in computes(instance, 0)] == [0, 2]
    assert where_compute(create_compute(instance, 0))[0] == 1
    assert where_compute(pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, 2)) == (2, 2, 1)
    assert code(pynvml.nvmlGpuInstanceGetComputeInstanceById, instance, 3) == NOT_FOUND


def test_compute_places_are_limited(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    instance = create(gpu(mig=True), G4)
    count = ctypes.c_uint()
    pynvml.nvmlGpuInstanceGetComputeInstancePossiblePlacements(instance, 1, None, ctypes.byref(count))
    assert count.value == 2
    assert code(create_compute, instance, 1, (1, 2)) == INVALID_ARGUMENT
    assert where_compute(create_compute(instance, 1, (2, 2))) == (0, 2, 2)
    assert code(create_compute, instance, 1, (2, 2)) == INSUFFICIENT_RESOURCES
    assert [pynvml.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(instance, part) for part in (0, 1, 3)] == [2, 1, 0]
    assert code(create_compute, instance, 4) == NOT_SUPPORTED


def test_h100_has_two_sizes_of_one_slice(nvml_machine: Make) -> None:
    """In a 1g.20gb the compute instance of id 7 has all 26 multiprocessors, that of id 0 has 16 of them."""
    nvml_machine("h100-80gb-sxm")
    device = gpu(mig=True)
    for part, multiprocessors in ((7, 26), (0, 16)):
        create_compute(create(device, G1_DOUBLE), part)
        assert multiprocessors in [pynvml.nvmlDeviceGetAttributes(mig).multiprocessorCount for mig in mig_devices(device)]


# --- MIG devices ---------------------------------------------------------------------------------------------------------


def test_mig_devices_describe_themselves(nvml_machine: Make) -> None:
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    instance = create(device, G3)
    for part in (0, 1):
        create_compute(instance, part)
    create_compute(create(device, G1), 0)
    found = mig_devices(device)
    # In the order of the GPU instances' ids, then of the compute instances'.
    order = [(pynvml.nvmlDeviceGetGpuInstanceId(mig), pynvml.nvmlDeviceGetComputeInstanceId(mig)) for mig in found]
    assert order == [(2, 0), (2, 1), (7, 0)]
    names = [pynvml.nvmlDeviceGetName(mig) for mig in found]
    assert names == [f"NVIDIA A100-SXM4-40GB MIG {name}" for name in ("1c.3g.20gb", "2c.3g.20gb", "1g.5gb")]
    attributes = pynvml.nvmlDeviceGetAttributes(found[1])
    assert (attributes.multiprocessorCount, attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount) == (28, 3, 2)
    assert (attributes.memorySizeMB, attributes.sharedDecoderCount, attributes.sharedCopyEngineCount) == (19968, 2, 3)
    assert pynvml.nvmlDeviceGetMemoryInfo(found[0]).total == 19968 << 20
    for mig in found:
        assert bool(pynvml.nvmlDeviceIsMigDeviceHandle(mig).value)
        uuid = pynvml.nvmlDeviceGetUUID(mig)
        assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())) == uuid
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
        assert pynvml.nvmlDeviceGetUUID(parent) == pynvml.nvmlDeviceGetUUID(device)
        assert code(pynvml.nvmlDeviceGetMigMode, mig) == INVALID_ARGUMENT
    assert not bool(pynvml.nvmlDeviceIsMigDeviceHandle(device).value)
    assert code(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device, 3) == NOT_FOUND
    assert code(pynvml.nvmlDeviceGetAttributes, device) == NOT_SUPPORTED


@pytest.mark.parametrize(("key", "most"), [("a100-40gb", 7), ("a30-24gb", 4), ("rtx-pro-6000-blackwell-96gb", 4), ("t4", 0)])
def test_the_most_mig_devices(nvml_machine: Make, key: str, most: int) -> None:
    nvml_machine(key)
    device = gpu()
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(device) == 0
    if most:
        pynvml.nvmlDeviceSetMigMode(device, 1)
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(device) == most


def uuids(device: Any) -> list[str]:
    return [pynvml.nvmlDeviceGetUUID(mig) for mig in mig_devices(device)]


def test_uuids_follow_from_the_placement(nvml_machine: Make) -> None:
    """The same GPU instance and place give the same UUID again, on the same GPU only."""
    nvml_machine("a100-40gb", count=2)
    first, second = gpu(0, mig=True), gpu(1, mig=True)
    for device in (first, second):
        for _ in range(2):
            create_compute(create(device, G3), 2)
    before = uuids(first)
    assert len(set(before + uuids(second))) == 4
    assert all(one[:4] == "MIG-" and one[18] == "5" and one[23] in "89ab" for one in before)
    instance = pynvml.nvmlDeviceGetGpuInstanceById(first, 2)
    pynvml.nvmlComputeInstanceDestroy(computes(instance, 2)[0])
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert uuids(first) == before[:1]
    create_compute(create(first, G3), 2)
    assert uuids(first) == before
