# SPDX-License-Identifier: Apache-2.0
"""Put GPUs back as they were found, after a change that failed or a run that was killed."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, TypeVar

from .journal import Found
from .layout.card import Gpu, Placement
from .nvml.gateway import Gateway
from .nvml.session import GatewayError, StoppedError
from .plan import GpuPlan, found, steps_back
from .steps import DISABLE, ENABLE

Say = Callable[[str], None]
Reset = Optional[Callable[[Sequence[Gpu]], None]]  # resets them together, raises GatewayError; None: not allowed

_T = TypeVar("_T")


def undisturbed(work: Callable[[], _T]) -> _T:
    """What has to be done to its end, and can be begun anew, when we are told to stop in the middle of it."""
    try:
        return work()
    except StoppedError:
        return work()


def restore(gateway: Gateway, begun: Sequence[GpuPlan], was: Dict[str, Found], reset: Reset, say: Say) -> List[str]:
    """Put the GPUs back, the last changed first; the answer is what went wrong with that, a sentence each."""
    trouble: List[str] = []
    waiting = _restore_each(gateway, begun[::-1], was, trouble, say)
    if waiting and reset:
        try:
            reset([one.gpu for one in waiting])
            waiting = _restore_each(gateway, waiting, was, trouble, say)
        except GatewayError as error:
            trouble.append(str(error))
    return trouble + [f"the MIG mode of GPU {one.gpu.index} comes back only with a reset of the GPU or a reboot" for one in waiting]


def _restore_each(gateway: Gateway, begun: Sequence[GpuPlan], was: Dict[str, Found], trouble: List[str], say: Say) -> List[GpuPlan]:
    """The answer are those whose mode does not come back without a reset."""
    waiting = []
    for one in begun:
        say(f"GPU {one.gpu.index}: put back as found")
        try:
            if not one.steps and gateway.processes(one.gpu):
                continue  # A killed run finished it, and somebody uses it since: that layout is whole, and theirs.
            if _put_back(gateway, one.gpu.index, was[one.uuid], trouble):
                waiting.append(one)
        except Exception as error:  # whatever it is, the other GPUs are to be put back
            trouble.append(str(error) or repr(error))
    return waiting


def _put_back(gateway: Gateway, index: int, target: Found, trouble: List[str]) -> bool:
    """Whether it waits for a reset to be as it was."""
    told: List[str] = []
    for _attempt in range(2):  # what failed for a moment, or was done and said to have failed, comes right the second time
        try:
            if _as_far_as_it_goes(gateway, index, target, told):
                return True
            now = gateway.detailed(gateway.gpu(index))
        except GatewayError as error:
            told.append(str(error))
            continue
        if now.enabled and now.pending and target.enabled:
            # That MIG was to be off after a reset is not asked for again: the driver may do it there and then, with all that is on it.
            target = target._replace(pending=True)
        if _shape(found(now)) == _shape(target):
            return False
    trouble += list(dict.fromkeys(told)) or [f"GPU {index} is not as it was found"]
    return False


def _as_far_as_it_goes(gateway: Gateway, index: int, target: Found, told: List[str]) -> bool:
    """Where a step fails the rest of that GPU instance stays as it is, and so does the mode; the others do not depend on it.

    The answer is whether the mode waits for a reset.
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
        slots = set(range(step.lies.start, step.lies.start + step.lies.size)) if step.lies else set()
        try:
            if not slots & stuck:
                gateway.perform(gpu, step, places)
        except GatewayError as error:
            told.append(str(error))
            stuck |= slots
    gateway.forget(index)
    return False


def _shape(of: Found) -> Tuple[Any, ...]:
    """What makes two states of a GPU the same; ids and UUIDs follow from the placements."""
    instances = [
        (instance.profile, instance.placement, sorted((one.profile, one.placement or Placement(-1, -1)) for one in instance.compute))
        for instance in of.instances
    ]
    return of.enabled, of.pending, sorted(instances)
