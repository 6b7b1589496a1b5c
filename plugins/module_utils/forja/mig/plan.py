# SPDX-License-Identifier: Apache-2.0
"""From what the GPUs are and what is wanted of them to the steps in between. It reads; it never changes anything."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..host.errors import ForjaError
from .journal import Found, Left
from .layout.card import Card, Compute, Gpu, Instance, Placement, Wanted
from .layout.decision import Layout, NewCompute, NoLayout, untouched
from .layout.solver import settled, solve
from .nvml.reader import Reader
from .steps import DISABLE, ENABLE, RESET, Step, back_to, clear, towards


class PlanError(ForjaError):
    """What is wanted cannot be on this GPU; nothing was changed."""


class SilentDriverError(PlanError):
    """nvml.h lets a driver keep its profiles to itself while MIG is off. To enable all GPUs would clear those that are right."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__(
            f"GPU {gpu.index} ({gpu.name} at {gpu.address}): its driver tells which profiles there are only while MIG is enabled. "
            "First apply a configuration that"
            f" enables it, with the entry {{devices: [{gpu.index}], mig-enabled: true, mig-devices: {{}}}}, then this one."
        )


class GpuPlan(NamedTuple):
    """One GPU: as it is, and the steps from there."""

    gpu: Gpu  # with ids and placements of compute instances whenever there are steps
    uuid: str
    wanted: Optional[Wanted]  # None: only what a killed run left is put back
    steps: Tuple[Step, ...]
    waits: Optional[str] = None  # why the wanted layout cannot be reached without a reset or a reboot
    layout: Optional[Layout] = None  # that the steps lead to; None where nothing changes, or MIG goes, or `back` says it
    back: Optional[Found] = None  # that the steps lead to where nothing is wanted

    @property
    def mode_changes(self) -> bool:
        return any(step.action in (ENABLE, DISABLE, RESET) for step in self.steps)


def plan(
    gateway: Reader, gpus: Sequence[Gpu], uuids: Dict[int, str], wanted: Dict[int, Wanted], left: Dict[str, Left], reset: bool
) -> List[GpuPlan]:
    """One plan for each GPU that is wanted to be something, or that a killed run left changed."""
    plans = []
    for gpu in gpus:
        uuid = uuids[gpu.index]
        if gpu.index in wanted:
            plans.append(plan_gpu(gateway, gpu, uuid, wanted[gpu.index], reset))
        elif uuid in left:
            if left[uuid].found.instances and not gpu.profiles:
                raise SilentDriverError(gpu)
            found = gateway.detailed(gpu)
            plans.append(GpuPlan(found, uuid, None, tuple(steps_back(found, left[uuid].found)), back=left[uuid].found))
    return plans


def plan_gpu(gateway: Reader, gpu: Gpu, uuid: str, wanted: Wanted, reset: bool) -> GpuPlan:
    mode: List[Step] = [] if gpu.pending == wanted.enabled else [Step(ENABLE if wanted.enabled else DISABLE)]
    waits = None
    if gpu.enabled != wanted.enabled == gpu.pending:
        if gpu.instances:
            mode = [Step(DISABLE)]  # It may only wait for these to go.
        elif reset:
            mode = [Step(RESET)]
        else:
            waits = (f"MIG mode of GPU {gpu.index} ({gpu.address}) was {'enabled' if wanted.enabled else 'disabled'} earlier and waits "
                     "for a reset of the GPU or a reboot")
    if not wanted.enabled:
        gpu = gateway.detailed(gpu)
        return GpuPlan(gpu, uuid, wanted, tuple(clear(gpu.instances) + mode), waits)
    if any(len(set(one.compute)) > 1 for one in wanted.instances):
        gpu = gateway.detailed(gpu)  # Only their ids tell the order of compute instances.
    if gpu.enabled and settled(Card(gpu.profiles), gpu.instances, wanted):
        # A step, be it only the mode, may have to be taken back: then each compute instance must be known.
        gpu = gateway.detailed(gpu) if mode else gpu
        return GpuPlan(gpu, uuid, wanted, tuple(mode), waits, untouched(gpu.instances))
    gpu = gateway.detailed(gpu)
    card = gateway.card(gpu)
    if not card.profiles and not settled(card, gpu.instances, wanted):
        raise SilentDriverError(gpu)
    try:
        layout = solve(card, gpu.instances, wanted)
    except NoLayout as error:
        raise PlanError(f"GPU {gpu.index} ({gpu.name} at {gpu.address}): {error}") from error
    return GpuPlan(gpu, uuid, wanted, () if waits else tuple(mode + towards(layout)), waits, layout)


def steps_back(gpu: Gpu, found: Found) -> List[Step]:
    """From what a GPU is, in detail, to what it was."""
    if found.enabled:
        mode = [Step(ENABLE)] if not gpu.enabled or (found.pending and not gpu.pending) else []
        return mode + back_to(gpu.profiles, gpu.instances, found.instances)
    if gpu.enabled:
        return clear(gpu.instances) + [Step(DISABLE)]
    return [] if gpu.pending == found.pending else [Step(ENABLE if found.pending else DISABLE)]


def found(gpu: Gpu) -> Found:
    """What is written down of a GPU before it is changed."""
    return Found(gpu.enabled, gpu.pending, gpu.instances)


def goal(one: GpuPlan) -> Found:
    """What the steps make of a GPU that is wanted to be something: what stays there has its ids, what is made has none yet."""
    if one.layout is None:
        return Found(False, False, ())
    stays = [
        kept.instance._replace(compute=tuple(old for old in kept.instance.compute if old not in kept.remove) + _made(kept.add))
        for kept in one.layout.kept
    ]
    return Found(True, True, tuple(stays + [Instance(-1, new.profile.id, new.placement, _made(new.compute)) for new in one.layout.new]))


def _made(compute: Sequence[NewCompute]) -> Tuple[Compute, ...]:
    return tuple(Compute(-1, -1, one.slices, Placement(one.start, one.slices)) for one in compute)
