# SPDX-License-Identifier: Apache-2.0
"""A stand-in with pynvml's functions that answers what the `nvml` part of a machine's description says.

What the description leaves out is answered with NVML_ERROR_NOT_SUPPORTED, as drivers do.
"""

from __future__ import annotations

import ctypes
import time
from types import SimpleNamespace
from typing import Any

NOT_SUPPORTED, INVALID_ARGUMENT, NOT_FOUND, FUNCTION_NOT_FOUND = 3, 2, 6, 13


class NVMLError(Exception):
    """As pynvml's: `value` is the code of nvml.h."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class FakeNvml:
    """One machine's NVML. Names and arguments are pynvml's."""

    c_nvmlGpuInstance_t = ctypes.c_void_p  # noqa: N815
    NVMLError = NVMLError

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        self.gpus: list[dict[str, Any]] = description.get("gpus", [])
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        time.sleep(self.description.get("hangs", 0))
        if "init_error" in self.description:
            raise NVMLError(self.description["init_error"])
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlErrorString(self, code: int) -> str:  # noqa: N802
        return f"error {code}"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return str(self.description["driver"])

    def nvmlSystemGetNVMLVersion(self) -> bytes:  # noqa: N802
        return b"13." + str(self.description["driver"]).encode()  # bytes, as from old bindings

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return int(self.description["cuda"])

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        if self.gpus[index].get("lost"):
            raise NVMLError(15)
        return self.gpus[index]

    def nvmlDeviceGetName(self, device: dict[str, Any]) -> str:  # noqa: N802
        return str(_need(device, "name"))

    def nvmlDeviceGetUUID(self, device: dict[str, Any]) -> str:  # noqa: N802
        return str(_need(device, "uuid"))

    def nvmlDeviceGetPciInfo(self, device: dict[str, Any]) -> Any:  # noqa: N802
        return SimpleNamespace(busId=_need(device, "address"))

    def nvmlDeviceGetMemoryInfo(self, device: dict[str, Any]) -> Any:  # noqa: N802
        return SimpleNamespace(total=_need(device, "memory_mib") << 20)

    def nvmlDeviceGetCudaComputeCapability(self, device: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        major, minor = _need(device, "capability")
        return major, minor

    def nvmlDeviceGetPersistenceMode(self, device: dict[str, Any]) -> int:  # noqa: N802
        return int(_need(device, "persistence"))

    def nvmlDeviceGetEccMode(self, device: dict[str, Any]) -> list[int]:  # noqa: N802
        return list(_need(device, "ecc"))

    def nvmlDeviceGetMigMode(self, device: dict[str, Any]) -> list[int]:  # noqa: N802
        return list(_need(device, "mig"))

    def nvmlDeviceGetComputeRunningProcesses(self, device: dict[str, Any]) -> list[Any]:  # noqa: N802
        if "uuid" not in device or not self.description.get("processes", "memory_mib" in device and "persistence" in device):
            raise NVMLError(NOT_SUPPORTED)
        return [
            SimpleNamespace(
                pid=process["pid"],
                usedGpuMemory=None if process["memory_mib"] is None else process["memory_mib"] << 20,
                gpuInstanceId=process.get("gpu_instance", 0xFFFFFFFF),
                computeInstanceId=process.get("compute_instance", 0xFFFFFFFF),
            )
            for process in device.get("processes", [])
        ]

    def nvmlDeviceGetGpuInstanceProfileInfo(self, device: dict[str, Any], profile: int, version: int = 2) -> Any:  # noqa: N802
        assert version == 2
        if profile > 17:
            raise NVMLError(INVALID_ARGUMENT)
        mine = [instance for instance in device.get("instances", []) if instance["profile_index"] == profile]
        if not mine:
            raise NVMLError(NOT_SUPPORTED)
        first = mine[0]
        return SimpleNamespace(id=first["profile_id"], instanceCount=7, memorySizeMB=first["memory_mib"], name=first["profile"])

    def nvmlDeviceGetGpuInstances(self, device: dict[str, Any], profile_id: int, array: Any, count: Any) -> int:  # noqa: N802
        if self.description.get("unprivileged"):
            raise NVMLError(4)
        mine = [instance for instance in device.get("instances", []) if instance["profile_id"] == profile_id]
        self.handles = getattr(self, "handles", {})
        for number, instance in enumerate(mine):
            array[number] = 1000 + instance["id"]
            self.handles[1000 + instance["id"]] = instance
        count._obj.value = len(mine)
        return 0

    def nvmlGpuInstanceGetInfo(self, handle: int) -> Any:  # noqa: N802
        instance = self.handles[handle]
        placement = SimpleNamespace(start=instance["start"], size=instance["size"])
        return SimpleNamespace(id=instance["id"], profileId=instance["profile_id"], placement=placement)

    def nvmlDeviceGetMaxMigDeviceCount(self, device: dict[str, Any]) -> int:  # noqa: N802
        return 7 if "mig" in device else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: dict[str, Any], index: int) -> dict[str, Any]:  # noqa: N802
        all_devices = [
            {
                "uuid": mig["uuid"],
                "name": f"{device['name']} {instance['profile']}",
                "gpu_instance": instance["id"],
                "compute_instance": mig["compute"],
            }
            for instance in device.get("instances", [])
            for mig in instance["devices"]
        ]
        if index >= len(all_devices):
            raise NVMLError(NOT_FOUND)
        return all_devices[index]

    def nvmlDeviceGetGpuInstanceId(self, device: dict[str, Any]) -> int:  # noqa: N802
        return int(device["gpu_instance"])

    def nvmlDeviceGetComputeInstanceId(self, device: dict[str, Any]) -> int:  # noqa: N802
        return int(device["compute_instance"])


def _need(device: dict[str, Any], name: str) -> Any:
    if device.get(name) is None:
        raise NVMLError(NOT_SUPPORTED)
    return device[name]
