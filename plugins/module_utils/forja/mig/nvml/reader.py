# SPDX-License-Identifier: Apache-2.0
"""Read a node through NVML; nothing here changes anything.

It takes as few calls as possible: what GPUs of one kind share (profiles, name, memory) is read once, and what only a plan or a
report needs (placements of the board, ids of compute instances, MIG devices) is read when it is needed. Profile indexes are
walked until NVML answers INVALID_ARGUMENT, as nvml.h says: bindings know fewer than drivers.
"""

from ctypes import byref, c_uint
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ...facts.pci import normal_address
from ..layout.card import Card, Compute, Gpu, Instance, Placement, Profile
from ..layout.names import attributes, gi_name
from .session import FUNCTION_NOT_FOUND, GPU_IS_LOST, NO_PERMISSION, NOT_FOUND, NOT_SUPPORTED, GatewayError, Session

_MOST_INSTANCES = 16  # room for NVML even where it counts wrong; no card has more than 8
_NO_MEMORY = "NVML does not report its memory, from which the names of MIG profiles are computed"
_OUTSIDE = 0xFFFFFFFF  # instance ids of a process that runs in no MIG instance


class MigDevice(NamedTuple):
    """What CUDA sees: one compute instance."""

    uuid: str
    gpu_instance: int
    compute_instance: int


class Process(NamedTuple):
    pid: int
    gpu_instance: Optional[int]  # None: outside MIG, or the driver does not say
    compute_instance: Optional[int]


class _ComputeKind(NamedTuple):
    id: int
    slices: int
    multiprocessors: int


class _Kind(NamedTuple):
    """What all GPUs with the same PCI ids share."""

    name: str
    total_bytes: int  # 0 where NVML does not report it: memory shared with the processor
    profiles: Tuple[Profile, ...]
    compute: Dict[int, List[_ComputeKind]]  # by the id of the GPU instance's profile


class Reader(Session):
    """A session that reads."""

    def __init__(self, nvml: Any) -> None:
        super().__init__(nvml)
        self.lost: List[int] = []
        self._kinds: Dict[Tuple[str, str], _Kind] = {}

    def versions(self) -> Tuple[str, str]:
        """Read the versions of the driver and of NVML."""
        return (
            _text(self._call("The driver's version", "nvmlSystemGetDriverVersion")),
            _text(self._call("NVML's version", "nvmlSystemGetNVMLVersion")),
        )

    def gpus(self) -> List[Gpu]:
        """Read all GPUs that answer; `lost` then holds the indexes of those that have fallen off the bus."""
        found = []
        self.lost = []
        for index in range(self._call("The number of GPUs", "nvmlDeviceGetCount")):
            try:
                found.append(self.gpu(index))
            except GatewayError as error:
                if error.code != GPU_IS_LOST:
                    raise
                self.lost.append(index)
        return found

    def gpu(self, index: int) -> Gpu:
        """Read one GPU again. Its compute instances have no ids or placements yet; `detailed` adds them."""
        device = self._device(index)
        bus = self._call(f"The PCI address of GPU {index}", "nvmlDeviceGetPciInfo", device)
        self._addresses[index] = bus.busId
        ids = _hex(bus.pciDeviceId), _hex(bus.pciSubSystemId)
        mode = self._optional(f"MIG mode of GPU {index}", (NOT_SUPPORTED, FUNCTION_NOT_FOUND), "nvmlDeviceGetMigMode", device)
        kind = self._kinds.get(ids)
        # Some drivers report profiles only in MIG mode: then the next GPU of this kind is read again.
        if kind is None or (mode is not None and not kind.profiles and kind.total_bytes):
            kind = self._kinds[ids] = self._kind(index, device, mode is not None)
        return Gpu(
            index=index,
            address=normal_address(_text(bus.busId)) or _text(bus.busId),
            device=ids[0],
            subsystem=ids[1],
            name=kind.name,
            total_bytes=kind.total_bytes,
            capable=mode is not None and kind.total_bytes > 0,
            enabled=bool(mode and mode[0]),
            pending=bool(mode and mode[1]),
            profiles=kind.profiles,
            instances=self._instances(index, device, kind) if mode and mode[0] else (),
            obstacle=_NO_MEMORY if mode is not None and not kind.total_bytes else "",
        )

    def uuid(self, gpu: Gpu) -> str:
        return _text(self._call(f"The UUID of GPU {gpu.index}", "nvmlDeviceGetUUID", self._device(gpu.index)))

    def minor(self, gpu: Gpu) -> int:
        """Read N of its /dev/nvidiaN, which may differ from its index."""
        return int(self._call(f"The device node of GPU {gpu.index}", "nvmlDeviceGetMinorNumber", self._device(gpu.index)))

    def card(self, gpu: Gpu) -> Card:
        """Read the profiles with the placements of this board: which slot has no compute differs from board to board.

        There are none where MIG is off and the driver reports them only while it is on.
        """
        found = []
        for profile in gpu.profiles:
            count = c_uint(0)
            try:
                self._placements(gpu, profile.id, None, count)
            except GatewayError as error:
                if error.code == NOT_SUPPORTED and not gpu.enabled:
                    return Card(())
                raise
            array = (self._nvml.c_nvmlGpuInstancePlacement_t * max(count.value, 1))()
            self._placements(gpu, profile.id, array, count)
            places = sorted(Placement(int(place.start), int(place.size)) for place in list(array)[: count.value])
            # mig-parted has a table of its own for the A30, since NVML counts its instances wrong; a plain profile is limited by its
            # placements anyway. A marked one, such as +me, by its engines.
            plain = not attributes(profile.index)
            found.append(profile._replace(placements=tuple(places), count=max(profile.count, len(places)) if plain else profile.count))
        return Card(tuple(found))

    def detailed(self, gpu: Gpu) -> Gpu:
        """Return the same GPU with ids and placements of its compute instances."""
        instances = []
        for instance in gpu.instances:
            found = {}
            for position, known in enumerate(instance.compute):
                if known.id >= 0:  # read before
                    found[known.id] = known
                    continue
                handle = self._compute_lists[gpu.index, instance.id][position]
                info = self._call(f"A compute instance of GPU {gpu.index}", "nvmlComputeInstanceGetInfo", handle)
                place = Placement(int(info.placement.start), int(info.placement.size))
                found[int(info.id)] = known._replace(id=int(info.id), placement=place)
                self._compute_handles[gpu.index, instance.id, int(info.id)] = handle
            instances.append(instance._replace(compute=tuple(found[number] for number in sorted(found))))
        return gpu._replace(instances=tuple(instances))

    def mig_devices(self, gpu: Gpu) -> List[MigDevice]:
        device = self._device(gpu.index)
        found = []
        for number in range(self._call("MIG devices", "nvmlDeviceGetMaxMigDeviceCount", device)):
            mig = self._optional("A MIG device", (NOT_FOUND,), "nvmlDeviceGetMigDeviceHandleByIndex", device, number)
            if mig is not None:
                found.append(
                    MigDevice(
                        _text(self._call("A MIG device", "nvmlDeviceGetUUID", mig)),
                        int(self._call("A MIG device", "nvmlDeviceGetGpuInstanceId", mig)),
                        int(self._call("A MIG device", "nvmlDeviceGetComputeInstanceId", mig)),
                    )
                )
        return found

    def processes(self, gpu: Gpu) -> List[Process]:
        """Read the processes that compute, also through MPS, or draw on it. Empty also where the driver does not report them."""
        found = {}
        for kind in ("Compute", "MPSCompute", "Graphics"):
            name = f"nvmlDeviceGet{kind}RunningProcesses"
            if not hasattr(self._nvml, name):  # a binding older than MPS's own list
                continue
            quiet = (NOT_SUPPORTED, FUNCTION_NOT_FOUND, NO_PERMISSION)
            for process in self._optional("Processes", quiet, name, self._device(gpu.index)) or []:
                ids = [None if value in (None, _OUTSIDE) else int(value) for value in (process.gpuInstanceId, process.computeInstanceId)]
                found[int(process.pid), ids[0], ids[1]] = Process(int(process.pid), ids[0], ids[1])
        return [found[key] for key in sorted(found, key=str)]

    def _kind(self, index: int, device: Any, capable: bool) -> _Kind:
        name = _text(self._call(f"The name of GPU {index}", "nvmlDeviceGetName", device))
        memory_info = self._optional(f"The memory of GPU {index}", (NOT_SUPPORTED, FUNCTION_NOT_FOUND), "nvmlDeviceGetMemoryInfo", device)
        total = int(memory_info.total or 0) if memory_info is not None else 0
        profiles = []
        if capable and total:
            what = f"Profiles of GPU {index}"
            found = self._walk(lambda number: self._call(what, "nvmlDeviceGetGpuInstanceProfileInfo", device, number, 1))
            for number, info in found:
                memory = int(info.memorySizeMB)
                profiles.append(
                    Profile(
                        index=number,
                        id=int(info.id),
                        name=gi_name(int(info.sliceCount), memory, total, attributes(number)),
                        slices=int(info.sliceCount),
                        count=int(info.instanceCount),
                        memory_mib=memory,
                        multiprocessors=int(info.multiprocessorCount),
                        engines=(int(info.decoderCount), int(info.encoderCount), int(info.jpegCount), int(info.ofaCount)),
                        placements=(),
                    )
                )
        return _Kind(name, total, tuple(profiles), {})

    def _instances(self, index: int, device: Any, kind: _Kind) -> Tuple[Instance, ...]:
        found = []
        for profile in kind.profiles:
            what = f"GPU instances {profile.name} of GPU {index}"
            array = (self._nvml.c_nvmlGpuInstance_t * max(profile.count, _MOST_INSTANCES))()
            count = c_uint(0)
            self._call(what, "nvmlDeviceGetGpuInstances", device, profile.id, array, byref(count))
            for handle in list(array)[: count.value]:
                info = self._call(what, "nvmlGpuInstanceGetInfo", handle)
                number = int(info.id)
                self._gpu_handles[index, number] = handle
                compute = []
                handles = self._compute_lists[index, number] = []
                for offered in self._compute_of(kind, profile.id, handle):
                    for compute_handle in self._compute_list(what, handle, offered.id, profile.slices):
                        handles.append(compute_handle)
                        compute.append(Compute(-1, offered.id, offered.slices, None))
                place = Placement(int(info.placement.start), int(info.placement.size))
                found.append(Instance(number, profile.id, place, tuple(compute)))
        return tuple(sorted(found, key=lambda instance: (instance.placement, instance.id)))

    def _compute_list(self, what: str, handle: Any, profile: int, most: int) -> List[Any]:
        array = (self._nvml.c_nvmlComputeInstance_t * most)()
        count = c_uint(0)
        self._call(what, "nvmlGpuInstanceGetComputeInstances", handle, profile, array, byref(count))
        return list(array)[: count.value]

    def _compute_of(self, kind: _Kind, profile: int, handle: Any) -> List[_ComputeKind]:
        """Read which compute instances a GPU instance of this profile takes; the driver answers only for one that exists."""
        if profile not in kind.compute:
            what = "Compute profiles"
            query = "nvmlGpuInstanceGetComputeInstanceProfileInfo"
            kind.compute[profile] = [
                _ComputeKind(int(info.id), int(info.sliceCount), int(info.multiprocessorCount))
                for _index, info in self._walk(lambda number: self._call(what, query, handle, number, 0, 1))
            ]
        return kind.compute[profile]

    def _placements(self, gpu: Gpu, profile: int, array: Any, count: c_uint) -> None:
        what = f"Placements on GPU {gpu.index}"
        self._call(what, "nvmlDeviceGetGpuInstancePossiblePlacements", self._device(gpu.index), profile, array, byref(count))


def _hex(number: int) -> str:
    return f"0x{int(number) & 0xFFFFFFFF:08X}"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
