# SPDX-License-Identifier: Apache-2.0
"""Put GPUs back as they were found, after a change that failed or a run that was interrupted."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, TypeVar

from .journal import GpuState
from .layout.card import Gpu, Placement
from .nvml.gateway import Gateway
from .nvml.session import GatewayError, StoppedError
from .plan import GpuPlan, state_of, steps_back
from .steps import DISABLE, ENABLE

Log = Callable[[str], object]
Reset = Optional[Callable[[Sequence[Gpu]], None]]  # resets them together, raises GatewayError; None: not allowed

_T = TypeVar("_T")


def run_to_completion(work: Callable[[], _T]) -> _T:
    """Run work that must be done to its end and can be started again, when a signal stops it in the middle."""
    try:
        return work()
    except StoppedError:
        return work()


def restore(gateway: Gateway, touched: Sequence[GpuPlan], originals: Dict[str, GpuState], reset: Reset, log: Log) -> List[str]:
    """Put the GPUs back, the last changed first; return what went wrong with that, a sentence each."""
    trouble: List[str] = []
    waiting = _restore_each(gateway, touched[::-1], originals, trouble, log)
    if waiting and reset:
        try:
            reset([plan.gpu for plan in waiting])
            waiting = _restore_each(gateway, waiting, originals, trouble, log)
        except GatewayError as error:
            trouble.append(str(error))
    return trouble + [f"the MIG mode of GPU {plan.gpu.index} comes back only with a reset of the GPU or a reboot" for plan in waiting]


def _restore_each(
    gateway: Gateway, touched: Sequence[GpuPlan], originals: Dict[str, GpuState], trouble: List[str], log: Log
) -> List[GpuPlan]:
    """Put back each GPU; return those whose mode does not come back without a reset."""
    waiting = []
    for plan in touched:
        log(f"GPU {plan.gpu.index}: put back as found")
        try:
            if not plan.steps and gateway.processes(plan.gpu):
                continue  # An interrupted run finished it, and it has been in use since: that layout is whole and stays.
            if _put_back(gateway, plan.gpu.index, originals[plan.uuid], trouble):
                waiting.append(plan)
        except Exception as error:  # whatever it is, the other GPUs are to be put back
            trouble.append(str(error) or repr(error))
    return waiting


def _put_back(gateway: Gateway, index: int, target: GpuState, trouble: List[str]) -> bool:
    """Put back one GPU; return whether it needs a reset for that."""
    errors: List[str] = []
    for _attempt in range(2):  # what failed for a moment, or succeeded although an error was reported, comes right the second time
        try:
            if apply_best_effort(gateway, index, target, errors):
                return True
            now = gateway.detailed(gateway.gpu(index))
        except GatewayError as error:
            errors.append(str(error))
            continue
        if now.enabled and now.pending and target.enabled:
            # That MIG was to be off after a reset is not asked for again: the driver may do it at once, with all that is on it.
            target = target._replace(pending=True)
        if _shape(state_of(now)) == _shape(target):
            return False
    trouble += list(dict.fromkeys(errors)) or [f"GPU {index} is not as it was found"]
    return False


def apply_best_effort(gateway: Gateway, index: int, target: GpuState, errors: List[str]) -> bool:
    """Take every step towards `target` that can be taken; return whether the mode waits for a reset.

    Where a step fails, the rest of that GPU instance stays as it is, and so does the mode. The other instances do not depend on it.
    """
    gateway.forget(index)
    gpu = gateway.detailed(gateway.gpu(index))
    places = {instance.placement: instance.id for instance in gpu.instances}
    stuck: Set[int] = set()  # slots
    for step in steps_back(gpu, target):
        if step.action in (ENABLE, DISABLE):
            if stuck:
                break
            gateway.set_mode(gpu, step.action == ENABLE)
            gateway.forget(index)
            gpu = gateway.gpu(index)
            if gpu.enabled != target.enabled == gpu.pending:
                return True
            continue
        place = step.placement
        slots = set(range(place.start, place.start + place.size)) if place else set()
        try:
            if not slots & stuck:
                gateway.perform(gpu, step, places)
        except GatewayError as error:
            errors.append(str(error))
            stuck |= slots
    gateway.forget(index)
    return False


def _shape(state: GpuState) -> Tuple[Any, ...]:
    """What makes two states of a GPU equal; ids and UUIDs follow from the placements."""
    instances = [
        (instance.profile, instance.placement, sorted((part.profile, part.placement or Placement(-1, -1)) for part in instance.compute))
        for instance in state.instances
    ]
    return state.enabled, state.pending, sorted(instances)
