# SPDX-License-Identifier: Apache-2.0
"""Decide whether a GPU is what an interrupted run left, or somebody has changed it since. Pure."""

from collections import Counter

from .journal import GpuState, JournalEntry
from .layout.card import Gpu, Instance
from .layout.names import ci_name


def is_leftover(entry: JournalEntry, now: Gpu) -> bool:
    """Return whether the interrupted run can have left `now`, which is a GPU in detail.

    A run removes what its target lacks and makes what its target adds. It never touches what stays, and makes nothing else.
    """
    states = (entry.found,) + entry.targets
    modes = {state.enabled for state in states}
    if now.enabled not in modes or now.pending not in modes | {entry.found.pending}:
        return False
    if not now.enabled:
        return True
    for instance in now.instances:
        alike = [other for state in states for other in state.instances if other[1:3] == instance[1:3]]
        most: Counter[int] = Counter()
        for other in alike:
            most |= _sizes(other)
        if not alike or _sizes(instance) - most:
            return False
    existing = {instance.id: instance for instance in now.instances}
    for kept in entry.found.instances:
        targets = [other for target in entry.targets for other in target.instances if other.id == kept.id]
        if len(targets) == len(entry.targets):
            compute = [part for part in kept.compute if all(part in target.compute for target in targets)]
            if kept.id not in existing or not set(compute) <= set(existing[kept.id].compute):
                return False
    return True


def is_finished(entry: JournalEntry, now: Gpu) -> bool:
    """Return whether the interrupted run had made of this GPU all that it wanted."""
    return bool(entry.targets) and _shape(GpuState(now.enabled, now.pending, now.instances)) == _shape(entry.targets[-1])


def describe(gpu: Gpu, state: GpuState) -> str:
    """Render a state, such as: 2 x 1g.5gb, 1 x 3g.20gb."""
    if not state.enabled:
        return "no MIG"
    names = {profile.id: profile.name for profile in gpu.profiles}
    counts: Counter[str] = Counter()
    for instance in state.instances:
        name = names.get(instance.profile, f"unknown profile {instance.profile}")
        counts.update([ci_name(name, compute.slices) for compute in instance.compute] or [name + " without compute instance"])
    return ", ".join(f"{counts[name]} x {name}" for name in sorted(counts)) or "no instance"


def _sizes(instance: Instance) -> "Counter[int]":
    return Counter(compute.slices for compute in instance.compute)


def _shape(state: GpuState) -> object:
    placed = sorted((instance.profile, instance.placement, sorted(_sizes(instance).items())) for instance in state.instances)
    return state.enabled, state.pending, placed
