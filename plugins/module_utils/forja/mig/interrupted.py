# SPDX-License-Identifier: Apache-2.0
"""Whether what a GPU holds now can be what a killed run left of it, or somebody has changed it by hand since. Pure."""

from collections import Counter

from .journal import Found, Left
from .layout.card import Gpu, Instance
from .layout.names import ci_name


def could_leave(left: Left, now: Gpu) -> bool:
    """`now` in detail. A run removes what goes and makes what comes; what stays it never touches, nor does it make anything else."""
    states = (left.found,) + left.heading
    modes = {one.enabled for one in states}
    if now.enabled not in modes or now.pending not in modes | {left.found.pending}:
        return False
    if not now.enabled:
        return True
    here = {instance.id: instance for instance in now.instances}
    for instance in now.instances:
        alike = [other for one in states for other in one.instances if other[1:3] == instance[1:3]]
        most: Counter[int] = Counter()
        for other in alike:
            most |= _sizes(other)
        if not alike or _sizes(instance) - most:
            return False
    for stays in left.found.instances:
        goals = [other for one in left.heading for other in one.instances if other.id == stays.id]
        if len(goals) == len(left.heading):
            compute = [one for one in stays.compute if all(one in goal.compute for goal in goals)]
            if stays.id not in here or not set(compute) <= set(here[stays.id].compute):
                return False
    return True


def finished(left: Left, now: Gpu) -> bool:
    """Whether the run had made of this GPU all that it wanted."""
    return bool(left.heading) and _shape(Found(now.enabled, now.pending, now.instances)) == _shape(left.heading[-1])


def words(gpu: Gpu, state: Found) -> str:
    """2 x 1g.5gb, 1 x 3g.20gb."""
    if not state.enabled:
        return "no MIG"
    names = {profile.id: profile.name for profile in gpu.profiles}
    told: Counter[str] = Counter()
    for instance in state.instances:
        name = names.get(instance.profile, f"unknown profile {instance.profile}")
        told.update([ci_name(name, compute.slices) for compute in instance.compute] or [name + " without compute instance"])
    return ", ".join(f"{told[name]} x {name}" for name in sorted(told)) or "no instance"


def _sizes(instance: Instance) -> "Counter[int]":
    return Counter(compute.slices for compute in instance.compute)


def _shape(state: Found) -> object:
    placed = sorted((one.profile, one.placement, sorted(_sizes(one).items())) for one in state.instances)
    return state.enabled, state.pending, placed
