# SPDX-License-Identifier: Apache-2.0
"""What the NVIDIA driver says about its GPUs, through an object with pynvml's functions.

Every value that the driver does not support, or keeps from us, is None: WSL2, vGPUs and Jetsons answer N/A to much.
Only starting NVML can fail as a whole.
"""

from ctypes import byref, c_uint
from typing import Any, Dict, List, Optional

from ..host.deadline import call
from ..host.errors import ForjaError
from .pci import normal_address

_UNKNOWN_CHILD = 0xFFFFFFFF  # what NVML writes for the instance ids of a process outside MIG
_MAX_PROFILES = 32  # indexes of GPU instance profiles; NVML defines 18 today and answers INVALID_ARGUMENT past the last


# What the NVML error codes that a broken driver gives mean for a person (nvml.h).
_ADVICE = {
    4: "this user may not use NVML: run as root",
    9: "the nvidia kernel module is not loaded",
    12: "libnvidia-ml.so.1 is not on the library path",
    15: "a GPU has fallen off the bus: look for Xid 79 in the kernel log, then power-cycle",
    17: "the system blocks access to the GPU, often a container without the devices, or a WSL library hidden by a Linux one",
    18: "the loaded kernel module and the libraries are of different versions: reboot or reload the module",
}


def read(nvml: Any) -> Dict[str, Any]:
    """Everything at once: versions, and one record a GPU. Raises ForjaError when NVML does not start."""
    try:
        nvml.nvmlInit()
    except Exception as error:  # pynvml's own class, or AttributeError of a broken binding
        code = getattr(error, "value", None)
        advice = _ADVICE.get(code) if isinstance(code, int) else None
        raise ForjaError(f"NVML does not start ({error}){': ' + advice if advice else ''}.") from error
    try:
        cuda = _ask(nvml, "nvmlSystemGetCudaDriverVersion")
        count = _ask(nvml, "nvmlDeviceGetCount") or 0
        gpus: List[Dict[str, Any]] = []
        lost: List[int] = []
        for index in range(count):
            handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", index)
            if handle is None:
                lost.append(index)
            else:
                gpus.append(_gpu(nvml, handle, index))
        return {
            "driver_version": _text(_ask(nvml, "nvmlSystemGetDriverVersion")),
            "nvml_version": _text(_ask(nvml, "nvmlSystemGetNVMLVersion")),
            "cuda_version": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            "gpus": gpus,
            "lost": lost,
        }
    finally:
        _ask(nvml, "nvmlShutdown")


def read_within(nvml: Any, seconds: float) -> Dict[str, Any]:
    """read() in a child process, given up after `seconds`. Raises ForjaError or DeadlineError."""

    def answer() -> Dict[str, Any]:
        try:
            return read(nvml)
        except ForjaError as error:
            return {"broken": str(error)}

    told: Dict[str, Any] = call(answer, seconds)
    if "broken" in told:
        raise ForjaError(told["broken"])
    return told


def _gpu(nvml: Any, handle: Any, index: int) -> Dict[str, Any]:
    bus = _ask(nvml, "nvmlDeviceGetPciInfo", handle)
    capability = _ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    persistence = _ask(nvml, "nvmlDeviceGetPersistenceMode", handle)
    ecc = _ask(nvml, "nvmlDeviceGetEccMode", handle)
    return {
        "index": index,
        "address": normal_address(_text(bus.busId) or "") if bus is not None else None,
        "uuid": _text(_ask(nvml, "nvmlDeviceGetUUID", handle)),
        "driver_name": _text(_ask(nvml, "nvmlDeviceGetName", handle)),
        "memory_mib": int(memory.total) // (1 << 20) if memory is not None else None,
        "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
        "persistence": bool(persistence) if persistence is not None else None,
        "ecc": {"current": bool(ecc[0]), "pending": bool(ecc[1])} if ecc else None,
        "mig": _mig(nvml, handle),
        "processes": _processes(nvml, handle),
    }


def _processes(nvml: Any, handle: Any) -> Optional[List[Dict[str, Any]]]:
    found: List[Dict[str, Any]] = []
    answered = False
    for kind in ("Compute", "Graphics"):
        running = _ask(nvml, f"nvmlDeviceGet{kind}RunningProcesses", handle)
        answered = answered or running is not None
        for process in running or []:
            used = getattr(process, "usedGpuMemory", None)
            found.append(
                {
                    "pid": int(process.pid),
                    "type": kind.lower(),
                    "memory_mib": int(used) // (1 << 20) if used is not None else None,
                    "gpu_instance": _child(process, "gpuInstanceId"),
                    "compute_instance": _child(process, "computeInstanceId"),
                }
            )
    return found if answered else None


def _child(process: Any, name: str) -> Optional[int]:
    value = getattr(process, name, None)
    return None if value is None or value == _UNKNOWN_CHILD else int(value)


def _mig(nvml: Any, handle: Any) -> Optional[Dict[str, Any]]:
    if not hasattr(nvml, "nvmlDeviceGetMigMode"):
        return None  # a binding from before MIG: it says nothing about the GPU
    mode = _ask(nvml, "nvmlDeviceGetMigMode", handle)
    if not mode:
        # Not supported: a GPU without MIG, a vGPU, or a driver before R450.
        return {"capable": False, "mode": None, "pending": None, "instances": []}
    return {
        "capable": True,
        "mode": "enabled" if mode[0] else "disabled",
        "pending": "enabled" if mode[1] else "disabled",
        "instances": _instances(nvml, handle) if mode[0] else [],
    }


def _instances(nvml: Any, handle: Any) -> List[Dict[str, Any]]:
    """One record a GPU instance, from its list (which needs root) and from the MIG devices (which do not)."""
    found: Dict[int, Dict[str, Any]] = {}
    for index in range(_MAX_PROFILES):
        profile = _ask(nvml, "nvmlDeviceGetGpuInstanceProfileInfo", handle, index)
        if profile is None or not profile.instanceCount:
            continue
        array = (nvml.c_nvmlGpuInstance_t * profile.instanceCount)()
        count = c_uint(0)
        if _ask(nvml, "nvmlDeviceGetGpuInstances", handle, profile.id, array, byref(count)) is None:
            continue
        for number in range(count.value):
            info = _ask(nvml, "nvmlGpuInstanceGetInfo", array[number])
            if info is not None:
                record = _blank_instance(int(info.id))
                record["profile"] = (_text(getattr(profile, "name", None)) or "").replace("MIG ", "", 1) or None
                record["profile_id"] = int(profile.id)
                record["memory_mib"] = int(profile.memorySizeMB)
                record["placement"] = {"start": int(info.placement.start), "size": int(info.placement.size)}
                found[record["gpu_instance"]] = record
    for index in range(_ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        device = _ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if device is None:
            continue
        instance = _ask(nvml, "nvmlDeviceGetGpuInstanceId", device)
        if instance is None:
            continue
        record = found.setdefault(int(instance), _blank_instance(int(instance)))
        name = _text(_ask(nvml, "nvmlDeviceGetName", device)) or ""
        record["devices"].append(
            {
                "compute_instance": _ask(nvml, "nvmlDeviceGetComputeInstanceId", device),
                "uuid": _text(_ask(nvml, "nvmlDeviceGetUUID", device)),
                "profile": name.rsplit(" MIG ", 1)[1] if " MIG " in name else None,
            }
        )
    return [found[number] for number in sorted(found)]


def _blank_instance(number: int) -> Dict[str, Any]:
    return {"gpu_instance": number, "profile": None, "profile_id": None, "memory_mib": None, "placement": None, "devices": []}


def _ask(nvml: Any, name: str, *arguments: Any) -> Any:
    """The answer, or None for every error: not supported, no permission, a function that driver or binding lack."""
    try:
        return getattr(nvml, name)(*arguments)
    except Exception:  # pynvml raises a class of its own for each code
        return None


def _text(value: Any) -> Optional[str]:
    """Old bindings answer in bytes."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip("\0 ") or None if value is not None else None
