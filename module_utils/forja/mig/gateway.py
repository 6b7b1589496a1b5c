# SPDX-License-Identifier: Apache-2.0
"""The only place of the MIG code that calls NVML, through an object with pynvml's functions; it counts the calls.

A look at a node takes as few calls as can be: what GPUs of one kind share (profiles, name, memory) is asked once, and what
only a plan or a report needs (placements of the board, ids of compute instances, MIG devices) is asked when it is needed.
Profile indexes are walked until NVML answers INVALID_ARGUMENT, as nvml.h says: bindings know fewer than drivers.
"""

import contextlib
from ctypes import byref, c_uint
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..pci import normal_address
from .card import Card, Compute, Instance, Placement, Profile
from .names import attributes, gi_name
from .steps import Step

INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, FUNCTION_NOT_FOUND, IN_USE = 2, 3, 6, 13, 19
_ENDLESS = 64  # no driver has as many profile indexes; a library that never says INVALID_ARGUMENT must not hold us for ever
_MOST_INSTANCES = 16  # room for NVML to write to even where it counts wrong; no card has more than 8
_OUTSIDE = 0xFFFFFFFF  # instance ids of a process that runs in no MIG instance


class GatewayError(Exception):
    """An NVML call failed. `code` is NVML's, None when the binding itself failed."""

    def __init__(self, what: str, error: Exception) -> None:
        self.code: Optional[int] = getattr(error, "value", None)
        super().__init__("%s: %s" % (what, error))


class Gpu(NamedTuple):
    """One GPU as found. Addresses are of the form 0000:07:00.0, ids of the form 0x20B010DE, as mig-parted writes them."""

    index: int  # type: ignore[assignment] # hides tuple.index
    address: str
    device: str
    subsystem: str
    name: str
    total_bytes: int
    capable: bool
    enabled: bool
    pending: bool
    profiles: Tuple[Profile, ...]
    instances: Tuple[Instance, ...]


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
    total_bytes: int
    profiles: Tuple[Profile, ...]
    compute: Dict[int, List[_ComputeKind]]  # by the id of the GPU instance's profile


class Gateway:
    """A session with NVML, from `with` to its end."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.calls = 0
        self._devices: Dict[int, Any] = {}
        self._addresses: Dict[int, Any] = {}  # as NVML writes them, by the index at first sight
        self._kinds: Dict[Tuple[str, str], _Kind] = {}
        self._gpu_handles: Dict[Tuple[int, int], Any] = {}
        self._compute_lists: Dict[Tuple[int, int], List[Any]] = {}  # in the order of Instance.compute as `gpu` gives it
        self._compute_handles: Dict[Tuple[int, int, int], Any] = {}

    def __enter__(self) -> "Gateway":
        self._call("NVML does not start", "nvmlInit")
        return self

    def __exit__(self, *_exception: Any) -> None:
        # What was done is done, whatever the end of the session answers.
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()

    # Reading

    def versions(self) -> Tuple[str, str]:
        """Of the driver and of NVML."""
        return (
            _text(self._call("The driver's version", "nvmlSystemGetDriverVersion")),
            _text(self._call("NVML's version", "nvmlSystemGetNVMLVersion")),
        )

    def gpus(self) -> List[Gpu]:
        count = self._call("The number of GPUs", "nvmlDeviceGetCount")
        return [self.gpu(index) for index in range(count)]

    def gpu(self, index: int) -> Gpu:
        """One GPU, read anew. Its compute instances have no ids or placements yet; `detailed` adds them."""
        device = self._device(index)
        bus = self._call("The PCI address of GPU %d" % index, "nvmlDeviceGetPciInfo", device)
        self._addresses[index] = bus.busId
        ids = _hex(bus.pciDeviceId), _hex(bus.pciSubSystemId)
        mode = self._optional("MIG mode of GPU %d" % index, (NOT_SUPPORTED, FUNCTION_NOT_FOUND), "nvmlDeviceGetMigMode", device)
        kind = self._kinds.get(ids)
        # Some drivers tell profiles only in MIG mode: then the next GPU of this kind is asked again.
        if kind is None or (mode is not None and not kind.profiles):
            kind = self._kinds[ids] = self._kind(index, device, mode is not None)
        return Gpu(
            index=index,
            address=normal_address(_text(bus.busId)) or _text(bus.busId),
            device=ids[0],
            subsystem=ids[1],
            name=kind.name,
            total_bytes=kind.total_bytes,
            capable=mode is not None,
            enabled=bool(mode and mode[0]),
            pending=bool(mode and mode[1]),
            profiles=kind.profiles,
            instances=self._instances(index, device, kind) if mode and mode[0] else (),
        )

    def uuid(self, gpu: Gpu) -> str:
        return _text(self._call("The UUID of GPU %d" % gpu.index, "nvmlDeviceGetUUID", self._device(gpu.index)))

    def minor(self, gpu: Gpu) -> int:
        """N of its /dev/nvidiaN, which need not be its index."""
        return int(self._call("The device node of GPU %d" % gpu.index, "nvmlDeviceGetMinorNumber", self._device(gpu.index)))

    def card(self, gpu: Gpu) -> Card:
        """The profiles with the placements of this very board: which slot has no compute differs from board to board.

        None at all where MIG is off and the driver tells them only while it is on.
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
        """The same GPU with ids and placements of its compute instances."""
        instances = []
        for instance in gpu.instances:
            found = {}
            for position, known in enumerate(instance.compute):
                handle = self._compute_lists[gpu.index, instance.id][position]
                info = self._call("A compute instance of GPU %d" % gpu.index, "nvmlComputeInstanceGetInfo", handle)
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
        """Who computes or draws on it. Empty also when the driver does not tell: then only its own refusal shows it."""
        found = {}
        for kind in ("Compute", "Graphics"):
            name = "nvmlDeviceGet%sRunningProcesses" % kind
            quiet = (NOT_SUPPORTED, FUNCTION_NOT_FOUND, 4)
            for process in self._optional("Processes", quiet, name, self._device(gpu.index)) or []:
                ids = [None if value in (None, _OUTSIDE) else int(value) for value in (process.gpuInstanceId, process.computeInstanceId)]
                found[int(process.pid), ids[0], ids[1]] = Process(int(process.pid), ids[0], ids[1])
        return [found[key] for key in sorted(found, key=str)]

    # Changing

    def set_mode(self, gpu: Gpu, enabled: bool) -> int:
        """Ask for the mode; the answer is NVML's activation status, 0 when it is in force. The ids of the GPU may change."""
        what = "%s MIG mode of GPU %d (%s)" % ("Enabling" if enabled else "Disabling", gpu.index, gpu.address)
        return int(self._call(what, "nvmlDeviceSetMigMode", self._device(gpu.index), int(enabled)) or 0)

    def forget(self, index: int) -> None:
        """The handles of a GPU whose mode changed are stale."""
        self._devices.pop(index, None)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Without a session for a while: a GPU that somebody has open, be it us, cannot be reset. All handles are stale afterwards."""
        self.__exit__()
        for handles in (self._devices, self._gpu_handles, self._compute_lists, self._compute_handles):
            handles.clear()
        try:
            yield
        finally:
            self._call("NVML does not start again", "nvmlInit")

    def destroy_compute(self, gpu: Gpu, instance: Instance, compute: Compute) -> None:
        what = "Removing compute instance %d of GPU instance %d of GPU %d" % (compute.id, instance.id, gpu.index)
        self._call(what, "nvmlComputeInstanceDestroy", self._compute_handles[gpu.index, instance.id, compute.id])

    def destroy_instance(self, gpu: Gpu, instance: Instance) -> None:
        what = "Removing GPU instance %d of GPU %d" % (instance.id, gpu.index)
        self._call(what, "nvmlGpuInstanceDestroy", self._gpu_handles[gpu.index, instance.id])

    def create_instance(self, gpu: Gpu, profile: Profile, place: Placement) -> int:
        """The id of the new GPU instance."""
        what = "Making a GPU instance %s at slot %d of GPU %d" % (profile.name, place.start, gpu.index)
        wanted = self._nvml.c_nvmlGpuInstancePlacement_t(place.start, place.size)
        device = self._device(gpu.index)
        handle = self._call(what, "nvmlDeviceCreateGpuInstanceWithPlacement", device, profile.id, byref(wanted))
        number = int(self._call(what, "nvmlGpuInstanceGetInfo", handle).id)
        self._gpu_handles[gpu.index, number] = handle
        return number

    def create_compute(self, gpu: Gpu, number: int, step: Step) -> None:
        """A compute instance in GPU instance `number`, as the step says."""
        what = "Making a compute instance of %d slices in GPU instance %d of GPU %d" % (step.slices, number, gpu.index)
        assert step.instance is not None
        handle = self._gpu_handles[gpu.index, number]
        kind = step.kind
        alone = any(one.id == step.instance.profile and one.slices == step.slices for one in gpu.profiles)
        if kind is None:
            offered = self._compute_of(self._kinds[gpu.device, gpu.subsystem], step.instance.profile, handle)
            fitting = [one for one in offered if one.slices == step.slices]
            if not fitting:
                raise GatewayError(what, LookupError("the driver offers none of that size there"))
            # H100 has two kinds of one slice, of 16 and of 26 multiprocessors. The large one is for a GPU instance that has just
            # this compute instance, such as 1g.20gb; in a larger one it would leave too little for the next.
            kind = (max if alone else min)(fitting, key=lambda one: (one.multiprocessors, -one.id)).id
        if step.start is not None and not alone:
            place = self._nvml.c_nvmlComputeInstancePlacement_t(step.start, step.slices)
            try:
                self._call(what, "nvmlGpuInstanceCreateComputeInstanceWithPlacement", handle, kind, byref(place))
                return
            except GatewayError as error:
                if error.code != FUNCTION_NOT_FOUND:  # Old drivers cannot be told a place.
                    raise
        # The older call, which every tool uses. For one that fills its GPU instance there is but one place.
        self._call(what, "nvmlGpuInstanceCreateComputeInstance", handle, kind)

    # How

    def _device(self, index: int) -> Any:
        if index not in self._devices:
            what, address = "GPU %d" % index, self._addresses.get(index)
            # A GPU that a reset lost makes the indexes of others smaller: what we know by its index we find by its address.
            self._devices[index] = (
                self._call(what, "nvmlDeviceGetHandleByIndex", index)
                if address is None
                else self._call(what, "nvmlDeviceGetHandleByPciBusId", address)
            )
        return self._devices[index]

    def _call(self, what: str, function: str, *arguments: Any) -> Any:
        self.calls += 1
        try:
            return getattr(self._nvml, function)(*arguments)
        except Exception as error:  # pynvml has a class for each code; a broken binding raises AttributeError
            raise GatewayError(what, error) from error

    def _optional(self, what: str, quiet: Tuple[int, ...], function: str, *arguments: Any) -> Any:
        """None for an answer whose code is one of `quiet`."""
        try:
            return self._call(what, function, *arguments)
        except GatewayError as error:
            if error.code in quiet:
                return None
            raise

    def _walk(self, ask: Callable[[int], Any]) -> List[Tuple[int, Any]]:
        """Index and answer for all indexes that are supported."""
        found = []
        for index in range(_ENDLESS):
            try:
                found.append((index, ask(index)))
            except GatewayError as error:
                if error.code == INVALID_ARGUMENT:
                    break
                if error.code != NOT_SUPPORTED:
                    raise
        return found

    def _kind(self, index: int, device: Any, capable: bool) -> _Kind:
        name = _text(self._call("The name of GPU %d" % index, "nvmlDeviceGetName", device))
        total = int(self._call("The memory of GPU %d" % index, "nvmlDeviceGetMemoryInfo", device).total)
        profiles = []
        if capable:
            what = "Profiles of GPU %d" % index
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
            what = "GPU instances %s of GPU %d" % (profile.name, index)
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
                    for one in self._compute_list(what, handle, offered.id, profile.slices):
                        handles.append(one)
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
        """What compute instances a GPU instance of this profile takes; the driver tells only of one that exists."""
        if profile not in kind.compute:
            what = "Compute profiles"
            query = "nvmlGpuInstanceGetComputeInstanceProfileInfo"
            kind.compute[profile] = [
                _ComputeKind(int(info.id), int(info.sliceCount), int(info.multiprocessorCount))
                for _index, info in self._walk(lambda number: self._call(what, query, handle, number, 0, 1))
            ]
        return kind.compute[profile]

    def _placements(self, gpu: Gpu, profile: int, array: Any, count: c_uint) -> None:
        what = "Placements on GPU %d" % gpu.index
        self._call(what, "nvmlDeviceGetGpuInstancePossiblePlacements", self._device(gpu.index), profile, array, byref(count))


def _hex(number: int) -> str:
    return "0x%08X" % (int(number) & 0xFFFFFFFF)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
