# SPDX-License-Identifier: Apache-2.0
"""Change GPUs through NVML; no other module of the MIG code does."""

from ctypes import byref
from typing import Dict

from ..layout.card import Compute, Gpu, Instance, Placement, Profile
from ..steps import MAKE_COMPUTE, MAKE_INSTANCE, REMOVE_COMPUTE, REMOVE_INSTANCE, Step
from .reader import Reader
from .session import FUNCTION_NOT_FOUND, GatewayError


class Gateway(Reader):
    """A session that reads and changes."""

    def perform(self, gpu: Gpu, step: Step, places: Dict[Placement, int]) -> None:
        """Take one step on instances. `places` has the ids of GPU instances by their placement; new ones are added."""
        if step.action == MAKE_INSTANCE and step.profile and step.place:
            places[step.place] = self.create_instance(gpu, step.profile, step.place)
        elif step.action == MAKE_COMPUTE and step.instance:
            self.create_compute(gpu, places[step.instance.placement], step)
        elif step.action == REMOVE_COMPUTE and step.instance and step.compute:
            self.destroy_compute(gpu, step.instance, step.compute)
        elif step.action == REMOVE_INSTANCE and step.instance:
            self.destroy_instance(gpu, step.instance)
        else:
            raise AssertionError(f"no such step: {step!r}")

    def set_mode(self, gpu: Gpu, enabled: bool) -> int:
        """Ask for the mode; return NVML's activation status, 0 when it is in force. The ids of the GPU may change."""
        what = f"{'Enabling' if enabled else 'Disabling'} MIG mode of GPU {gpu.index} ({gpu.address})"
        return int(self._call(what, "nvmlDeviceSetMigMode", self._device(gpu.index), int(enabled)) or 0)

    def destroy_compute(self, gpu: Gpu, instance: Instance, compute: Compute) -> None:
        what = f"Removing compute instance {compute.id} of GPU instance {instance.id} of GPU {gpu.index}"
        self._call(what, "nvmlComputeInstanceDestroy", self._compute_handles[gpu.index, instance.id, compute.id])

    def destroy_instance(self, gpu: Gpu, instance: Instance) -> None:
        what = f"Removing GPU instance {instance.id} of GPU {gpu.index}"
        self._call(what, "nvmlGpuInstanceDestroy", self._gpu_handles[gpu.index, instance.id])

    def create_instance(self, gpu: Gpu, profile: Profile, place: Placement) -> int:
        """Create a GPU instance and return its id."""
        what = f"Making a GPU instance {profile.name} at slot {place.start} of GPU {gpu.index}"
        wanted = self._nvml.c_nvmlGpuInstancePlacement_t(place.start, place.size)
        device = self._device(gpu.index)
        handle = self._call(what, "nvmlDeviceCreateGpuInstanceWithPlacement", device, profile.id, byref(wanted))
        number = int(self._call(what, "nvmlGpuInstanceGetInfo", handle).id)
        self._gpu_handles[gpu.index, number] = handle
        return number

    def create_compute(self, gpu: Gpu, number: int, step: Step) -> None:
        """Create a compute instance in GPU instance `number`, as the step says."""
        what = f"Making a compute instance of {step.slices} slices in GPU instance {number} of GPU {gpu.index}"
        assert step.instance is not None
        handle = self._gpu_handles[gpu.index, number]
        kind_id = step.kind
        alone = any(profile.id == step.instance.profile and profile.slices == step.slices for profile in gpu.profiles)
        if kind_id is None:
            offered = self._compute_of(self._kinds[gpu.device, gpu.subsystem], step.instance.profile, handle)
            fitting = [kind for kind in offered if kind.slices == step.slices]
            if not fitting:
                raise GatewayError(what, LookupError("the driver offers none of that size there"))
            # H100 has two kinds of one slice, of 16 and of 26 multiprocessors. The large one is for a GPU instance that has just
            # this compute instance, such as 1g.20gb; in a larger one it would leave too little for the next.
            kind_id = (max if alone else min)(fitting, key=lambda kind: (kind.multiprocessors, -kind.id)).id
        if step.start is not None and not alone:
            place = self._nvml.c_nvmlComputeInstancePlacement_t(step.start, step.slices)
            try:
                self._call(what, "nvmlGpuInstanceCreateComputeInstanceWithPlacement", handle, kind_id, byref(place))
                return
            except GatewayError as error:
                if error.code != FUNCTION_NOT_FOUND:  # Old drivers cannot be told a place.
                    raise
        # The older call, which every tool uses. A compute instance that fills its GPU instance has only one place.
        self._call(what, "nvmlGpuInstanceCreateComputeInstance", handle, kind_id)
