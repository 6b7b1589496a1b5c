# SPDX-License-Identifier: Apache-2.0
"""List the steps from one layout of a GPU to another, in an order that the driver accepts. Pure."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .layout.card import Compute, Instance, Placement, Profile
from .layout.decision import Layout, NewCompute

ENABLE, DISABLE, RESET = "enable_mig", "disable_mig", "reset_gpu"
REMOVE_COMPUTE, REMOVE_INSTANCE = "remove_compute_instance", "remove_gpu_instance"
MAKE_INSTANCE, MAKE_COMPUTE = "make_gpu_instance", "make_compute_instance"


class Step(NamedTuple):
    """One call, or two, of NVML. Which fields are filled follows from the action."""

    action: str
    instance: Optional[Instance] = None  # what is removed, or gets another compute instance
    compute: Optional[Compute] = None  # what is removed
    profile: Optional[Profile] = None  # of the GPU instance that is made
    place: Optional[Placement] = None  # of the GPU instance that is made
    slices: int = 0  # of the compute instance that is made
    start: Optional[int] = None  # its first slice within the GPU instance; None leaves it to the driver
    kind: Optional[int] = None  # its profile; None takes the one with the most multiprocessors among those of `slices`

    @property
    def placement(self) -> Optional[Placement]:
        """The place of the GPU instance concerned; None for a step of the whole GPU."""
        return self.place or (self.instance.placement if self.instance else None)

    def describe(self) -> str:
        if self.action == ENABLE:
            return "enable MIG"
        if self.action == DISABLE:
            return "disable MIG"
        if self.action == RESET:
            return "reset the GPU, so that the pending mode comes into force"
        if self.action == MAKE_INSTANCE:
            assert self.profile is not None
            assert self.place is not None
            return f"make {self.profile.name} at {span(self.place)}"
        assert self.instance is not None
        place = f"at {span(self.instance.placement)}"
        if self.action == REMOVE_INSTANCE:
            return f"remove GPU instance {self.instance.id} {place}"
        if self.action == REMOVE_COMPUTE:
            assert self.compute is not None
            compute = f"compute instance {self.compute.id} ({self.compute.slices}c)"
            return f"remove {compute} of GPU instance {self.instance.id} {place}"
        return f"add a compute instance of {self.slices}c to the GPU instance {place}"

    def data(self) -> Dict[str, Any]:
        record: Dict[str, Any] = {"action": self.action}
        if self.action in (REMOVE_COMPUTE, REMOVE_INSTANCE) and self.instance is not None:
            record["gpu_instance"] = self.instance.id
        if self.compute is not None:
            record["compute_instance"] = self.compute.id
        if self.profile is not None:
            record["profile"] = self.profile.name
        if self.placement is not None:
            record["placement"] = {"start": self.placement.start, "size": self.placement.size}
        if self.slices:
            record["compute_slices"] = self.slices
        return record


def span(place: Placement) -> str:
    return f"slot {place.start}" if place.size == 1 else f"slots {place.start}-{place.start + place.size - 1}"


def clear(instances: Sequence[Instance]) -> List[Step]:
    """List the steps that remove instances, compute instances first: a GPU instance that has one is in use."""
    steps = []
    for instance in instances:
        steps += [Step(REMOVE_COMPUTE, instance=instance, compute=compute) for compute in instance.compute]
        steps.append(Step(REMOVE_INSTANCE, instance=instance))
    return steps


def towards(layout: Layout) -> List[Step]:
    """List the steps to a layout: removals first, since new instances may need their room."""
    removals: List[Step] = clear(layout.gone)
    additions: List[Step] = []
    for kept in layout.kept:
        removals += [Step(REMOVE_COMPUTE, instance=kept.instance, compute=compute) for compute in kept.remove]
        additions += [_make(kept.instance, compute) for compute in kept.add]
    for new in layout.new:
        additions.append(Step(MAKE_INSTANCE, profile=new.profile, place=new.placement))
        # A GPU instance that does not exist yet is found by its placement.
        blank = Instance(-1, new.profile.id, new.placement, ())
        additions += [_make(blank, compute) for compute in new.compute]
    return removals + additions


def back_to(profiles: Sequence[Profile], current: Sequence[Instance], target: Sequence[Instance]) -> List[Step]:
    """List the steps from any layout to an earlier one, at its own placements; what is already right is not touched.

    Compute instances are made in the order of their former ids, so that they get the same ids and UUIDs.
    """
    by_id = {profile.id: profile for profile in profiles}
    wanted = {(instance.profile, instance.placement): instance for instance in target}
    removals: List[Step] = []
    additions: List[Step] = []
    kept = set()
    for instance in current:
        target_instance = wanted.get((instance.profile, instance.placement))
        if target_instance is None:
            removals += clear([instance])
            continue
        kept.add((target_instance.profile, target_instance.placement))
        have = {(compute.profile, compute.placement) for compute in instance.compute}
        keep = {(compute.profile, compute.placement) for compute in target_instance.compute}
        removals += [
            Step(REMOVE_COMPUTE, instance=instance, compute=compute)
            for compute in instance.compute
            if (compute.profile, compute.placement) not in keep
        ]
        additions += [_remake(instance, part) for part in target_instance.compute if (part.profile, part.placement) not in have]
    for goal in target:
        if (goal.profile, goal.placement) not in kept:
            additions.append(Step(MAKE_INSTANCE, profile=by_id[goal.profile], place=goal.placement))
            additions += [_remake(goal, part) for part in goal.compute]
    return removals + additions


def _make(instance: Instance, compute: NewCompute) -> Step:
    return Step(MAKE_COMPUTE, instance=instance, slices=compute.slices, start=compute.start)


def _remake(instance: Instance, compute: Compute) -> Step:
    start = compute.placement.start if compute.placement else None
    return Step(MAKE_COMPUTE, instance=instance, slices=compute.slices, start=start, kind=compute.profile)
