# SPDX-License-Identifier: Apache-2.0
"""Short words for what the simulator's tests say often, all through NVIDIA's binding."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pynvml

SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED = 0, 2, 3, 4, 6, 9
RESET_REQUIRED, VERSION_MISMATCH, IN_USE, INSUFFICIENT_RESOURCES, UNKNOWN = 16, 18, 19, 23, 999


def code(call: Callable[..., Any], *arguments: Any) -> int:
    """What NVML returned: 0, or the code that the binding raised."""
    try:
        call(*arguments)
    except pynvml.NVMLError as error:
        return int(error.value)
    return SUCCESS


def gpu(index: int = 0, *, mig: bool = False) -> Any:
    """A GPU's handle, in MIG mode if asked for."""
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    if mig:
        assert pynvml.nvmlDeviceSetMigMode(device, 1) == SUCCESS
    return device


def profile_info(device: Any) -> dict[int, Any]:
    """What the GPU offers, by profile index."""
    found = {}
    for index in range(64):
        result = code(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, device, index)
        if result == INVALID_ARGUMENT:
            break
        if result == SUCCESS:
            found[index] = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(device, index)
    return found


def placements(device: Any, profile_id: int) -> list[tuple[int, int]]:
    count = ctypes.c_uint()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, None, ctypes.byref(count))
    array = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, ctypes.byref(array), ctypes.byref(count))
    return [(place.start, place.size) for place in array]


def create(device: Any, profile_id: int, place: tuple[int, int] | None = None) -> Any:
    """A new GPU instance, where the driver likes or at a place."""
    if place is None:
        return pynvml.nvmlDeviceCreateGpuInstance(device, profile_id)
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile_id, ctypes.byref(pynvml.c_nvmlGpuInstancePlacement_t(*place)))


def create_compute(instance: Any, profile_id: int, place: tuple[int, int] | None = None) -> Any:
    if place is None:
        return pynvml.nvmlGpuInstanceCreateComputeInstance(instance, profile_id)
    wanted = pynvml.c_nvmlComputeInstancePlacement_t(*place)
    return pynvml.nvmlGpuInstanceCreateComputeInstanceWithPlacement(instance, profile_id, ctypes.byref(wanted))


def where(instance: Any) -> tuple[int, int, int]:
    """A GPU instance's id, start and size."""
    info = pynvml.nvmlGpuInstanceGetInfo(instance)
    return info.id, info.placement.start, info.placement.size


def where_compute(compute: Any) -> tuple[int, int, int]:
    info = pynvml.nvmlComputeInstanceGetInfo(compute)
    return info.id, info.placement.start, info.placement.size


def ids(device: Any, *profiles: int) -> list[int]:
    """The ids that GPU instances of these profiles get, made one after the other where the driver likes."""
    return [where(create(device, profile))[0] for profile in profiles]


def remaining(device: Any, profile_id: int) -> int:
    return int(pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile_id))


def instances(device: Any, profile_id: int) -> list[Any]:
    """The GPU instances of a profile."""
    array, count = (pynvml.c_nvmlGpuInstance_t * 8)(), ctypes.c_uint()
    pynvml.nvmlDeviceGetGpuInstances(device, profile_id, array, ctypes.byref(count))
    return [array[number] for number in range(count.value)]


def computes(instance: Any, profile_id: int) -> list[Any]:
    """The compute instances of a profile."""
    array, count = (pynvml.c_nvmlComputeInstance_t * 8)(), ctypes.c_uint()
    pynvml.nvmlGpuInstanceGetComputeInstances(instance, profile_id, array, ctypes.byref(count))
    return [array[number] for number in range(count.value)]


def mig_devices(device: Any) -> list[Any]:
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        if code(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, device, index) == SUCCESS:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index))
    return found
