# SPDX-License-Identifier: Apache-2.0
"""Plan the steps from what the GPUs are to what is wanted of them. It reads; it never changes anything."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..host.errors import ForjaError
from .journal import GpuState, JournalEntry
from .layout.card import Card, Compute, Gpu, Instance, Placement, Wanted
from .layout.decision import Layout, NewCompute, NoLayout, untouched
from .layout.solver import is_settled, solve
from .nvml.reader import Reader
from .steps import DISABLE, ENABLE, RESET, Step, back_to, clear, towards


class PlanError(ForjaError):
    """Raised when a request does not fit on this GPU; nothing was changed."""


class SilentDriverError(PlanError):
    """Raised when the driver reports profiles only while MIG is on, as nvml.h allows.

    The plan does not enable it by itself: that would clear GPUs which are right.
    """

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
    wanted: Optional[Wanted]  # None: only what an interrupted run left is put back
    steps: Tuple[Step, ...]
    waits: Optional[str] = None  # why the wanted layout cannot be reached without a reset or a reboot
    layout: Optional[Layout] = None  # the result of the steps; None where nothing changes, MIG is disabled, or `back` holds it
    back: Optional[GpuState] = None  # the result of the steps where nothing is wanted

    @property
    def mode_changes(self) -> bool:
        return any(step.action in (ENABLE, DISABLE, RESET) for step in self.steps)

    @property
    def target_mode(self) -> bool:
        """Whether MIG is enabled after the steps."""
        for step in self.steps:
            if step.action in (ENABLE, DISABLE):
                return step.action == ENABLE
        return self.wanted.enabled if self.wanted else self.gpu.enabled


def plan_node(
    gateway: Reader, gpus: Sequence[Gpu], uuids: Dict[int, str], wanted: Dict[int, Wanted], entries: Dict[str, JournalEntry], reset: bool
) -> List[GpuPlan]:
    """Plan each GPU of which something is wanted, or that an interrupted run changed."""
    plans = []
    for gpu in gpus:
        uuid = uuids[gpu.index]
        if gpu.index in wanted:
            plans.append(plan_gpu(gateway, gpu, uuid, wanted[gpu.index], reset))
        elif uuid in entries:
            found = entries[uuid].found
            if found.instances and not gpu.profiles:
                raise SilentDriverError(gpu)
            detailed = gateway.detailed(gpu)
            plans.append(GpuPlan(detailed, uuid, None, tuple(steps_back(detailed, found)), back=found))
    return plans


def plan_gpu(gateway: Reader, gpu: Gpu, uuid: str, wanted: Wanted, reset: bool) -> GpuPlan:
    """Plan one GPU. Raises PlanError when the request does not fit."""
    mode: List[Step] = [] if gpu.pending == wanted.enabled else [Step(ENABLE if wanted.enabled else DISABLE)]
    waits = None
    if gpu.enabled != wanted.enabled == gpu.pending:
        if gpu.instances:
            mode = [Step(DISABLE)]  # The pending mode may only wait for the instances to be removed.
        elif reset:
            mode = [Step(RESET)]
        else:
            mode_name = "enabled" if wanted.enabled else "disabled"
            waits = f"MIG mode of {gpu.place} was {mode_name} earlier and waits for a reset of the GPU or a reboot"
    if not wanted.enabled:
        gpu = gateway.detailed(gpu)
        return GpuPlan(gpu, uuid, wanted, tuple(clear(gpu.instances) + mode), waits)
    if any(len(set(instance.compute)) > 1 for instance in wanted.instances):
        gpu = gateway.detailed(gpu)  # Only their ids tell the order of compute instances.
    if gpu.enabled and is_settled(Card(gpu.profiles), gpu.instances, wanted):
        # A step, even of the mode only, may have to be undone: that needs every compute instance.
        gpu = gateway.detailed(gpu) if mode else gpu
        return GpuPlan(gpu, uuid, wanted, tuple(mode), waits, untouched(gpu.instances))
    gpu = gateway.detailed(gpu)
    card = gateway.card(gpu)
    if not card.profiles and not is_settled(card, gpu.instances, wanted):
        raise SilentDriverError(gpu)
    try:
        layout = solve(card, gpu.instances, wanted)
    except NoLayout as error:
        raise PlanError(f"GPU {gpu.index} ({gpu.name} at {gpu.address}): {error}") from error
    return GpuPlan(gpu, uuid, wanted, () if waits else tuple(mode + towards(layout)), waits, layout)


def steps_back(gpu: Gpu, found: GpuState) -> List[Step]:
    """Plan the way from a GPU, in detail, to what it was."""
    if found.enabled:
        mode = [Step(ENABLE)] if not gpu.enabled or (found.pending and not gpu.pending) else []
        return mode + back_to(gpu.profiles, gpu.instances, found.instances)
    if gpu.enabled:
        return clear(gpu.instances) + [Step(DISABLE)]
    return [] if gpu.pending == found.pending else [Step(ENABLE if found.pending else DISABLE)]


def state_of(gpu: Gpu) -> GpuState:
    """Return what the journal keeps of a GPU."""
    return GpuState(gpu.enabled, gpu.pending, gpu.instances)


def target_state(plan: GpuPlan) -> GpuState:
    """Return what the steps make of a GPU of which something is wanted: kept instances have ids, new ones have none yet."""
    if plan.layout is None:
        return GpuState(False, False, ())
    kept = [
        part.instance._replace(compute=tuple(old for old in part.instance.compute if old not in part.remove) + _created(part.add))
        for part in plan.layout.kept
    ]
    created = [Instance(-1, new.profile.id, new.placement, _created(new.compute)) for new in plan.layout.new]
    return GpuState(True, True, tuple(kept + created))


def _created(compute: Sequence[NewCompute]) -> Tuple[Compute, ...]:
    return tuple(Compute(-1, -1, new.slices, Placement(new.start, new.slices)) for new in compute)
