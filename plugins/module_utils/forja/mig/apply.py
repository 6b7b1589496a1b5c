# SPDX-License-Identifier: Apache-2.0
"""Apply the plans of a node: all of them, or none. After any failure every GPU is put back as it was found (rollback.py)."""

import contextlib
from functools import partial
from typing import Any, Dict, List, NamedTuple, Sequence

from ..host.errors import ForjaError
from .blockers import blockers, describe
from .journal import GpuState, Journal, JournalEntry
from .layout.card import Placement
from .nvml.gateway import Gateway
from .nvml.reset import ResetRefusedError
from .nvml.session import IN_USE, GatewayError, StoppedError
from .plan import GpuPlan, plan_gpu, state_of, steps_back, target_state
from .rollback import Log, Reset, restore, run_to_completion
from .steps import DISABLE, ENABLE, REMOVE_COMPUTE, REMOVE_INSTANCE, RESET, Step

_MODE = (ENABLE, DISABLE, RESET)


class BusyError(ForjaError):
    """Raised when a process uses what would be removed; nothing was changed. `blockers` has a record for each process."""

    def __init__(self, found: List[Dict[str, Any]]) -> None:
        self.blockers = found
        super().__init__(
            f"In use, so nothing was changed: {'; '.join(map(describe, found))}. Stop them, or ask for a layout that keeps their instances."
        )


class ChangeError(ForjaError):
    """Raised when a change failed. `restored` says whether every GPU is again as it was found."""

    def __init__(self, message: str, restored: bool) -> None:
        self.restored = restored
        super().__init__(message)


class HostAccess(NamedTuple):
    """What a change needs of the host."""

    files: Any  # HostFiles, to name processes
    pid: int  # of this process
    reset: Reset


def apply_plans(
    gateway: Gateway, plans: Sequence[GpuPlan], journal: Journal, entries: Dict[str, JournalEntry], host: HostAccess, log: Log
) -> Dict[str, str]:
    """Change the GPUs, then verify them. The journal must be held.

    Returns, by UUID, why a GPU needs a reboot. Raises BusyError before the first change, ChangeError after it.
    """
    log = _tolerant(log)
    changing = [plan for plan in plans if plan.steps]
    in_the_way = blockers(gateway, host.files, changing, host.pid)
    if in_the_way:
        raise BusyError(in_the_way)
    noted = dict(entries)
    for plan in changing:
        # Of a GPU that an interrupted run changed, what that run found counts: it is what its users last chose.
        entry = entries.get(plan.uuid) or JournalEntry(state_of(plan.gpu), ())
        noted[plan.uuid] = entry._replace(targets=entry.targets + (target_state(plan),)) if plan.wanted else entry
    originals = {uuid: entry.found for uuid, entry in noted.items()}
    journal.write(noted)
    # What an interrupted run changed is part of this change, finished or not: the rollback includes it.
    touched = [plan for plan in plans if plan.uuid in entries]
    try:
        waiting = _modes(gateway, changing, touched, host, log)
        for plan in changing:
            if plan.uuid not in waiting:
                _instances(gateway, plan, touched, log)
        for plan in changing:
            if plan.uuid not in waiting:
                _verify(gateway, plan, originals[plan.uuid])
    except BaseException as error:  # also an interrupt: half a layout serves nobody
        trouble = run_to_completion(partial(restore, gateway, touched, originals, host.reset, log))
        if not trouble:
            run_to_completion(journal.clear)
        if not isinstance(error, (GatewayError, _MismatchError, StoppedError)):
            raise
        raise ChangeError(_failure(error, touched, originals, trouble), not trouble) from error
    run_to_completion(journal.clear)
    return waiting


def _tolerant(log: Log) -> Log:
    """Wrap `log`, so that a terminal that has been closed does not stop the change halfway."""

    def write(message: str) -> None:
        with contextlib.suppress(OSError):
            log(message)

    return write


class _MismatchError(ForjaError):
    """All NVML calls succeeded but the result differs from the plan."""


def _modes(gateway: Gateway, plans: Sequence[GpuPlan], touched: List[GpuPlan], host: HostAccess, log: Log) -> Dict[str, str]:
    """Make all mode changes, before any new instance: one reset may take several GPUs, and what they hold.

    Returns, by UUID, why a mode does not come into force without a reboot.
    """
    pending: List[GpuPlan] = []
    for plan in plans:
        if not plan.mode_changes:
            continue
        _touch(touched, plan)
        for step in plan.steps:
            if step.action in (ENABLE, DISABLE):
                if not _set_mode(gateway, plan, step, log):
                    pending.append(plan)
            elif step.action == RESET:
                pending.append(plan)
            elif step.action in (REMOVE_COMPUTE, REMOVE_INSTANCE):
                _step(gateway, plan, step, {}, log)
    if not pending:
        return {}
    if not host.reset:
        return {plan.uuid: f"MIG mode of {plan.gpu.place} changes only with a reset of the GPU or a reboot" for plan in pending}
    refusals = _reset(gateway, pending, host.reset, log)
    for plan in plans:  # for handles of this session, also where no mode changes
        gateway.detailed(gateway.gpu(plan.gpu.index))
    return refusals


def _reset(gateway: Gateway, plans: Sequence[GpuPlan], reset: Any, log: Log) -> Dict[str, str]:
    """Reset GPUs together, or each alone where that is refused; return, by UUID, why a mode has to wait for a reboot.

    In a virtual machine with a GPU passed through, only the hypervisor can reset it: there a reboot does.
    """
    log(f"Reset {', '.join(plan.gpu.place for plan in plans)}")
    try:
        reset([plan.gpu for plan in plans])
    except ResetRefusedError as error:
        if len(plans) == 1:
            return {plans[0].uuid: f"MIG mode of {plans[0].gpu.place} changes only with a reboot: {' '.join(str(error).split())}"}
        refusals: Dict[str, str] = {}
        for plan in plans:
            if gateway.gpu(plan.gpu.index).enabled != plan.target_mode:
                refusals.update(_reset(gateway, [plan], reset, log))
        return refusals
    return {}


def _set_mode(gateway: Gateway, plan: GpuPlan, step: Step, log: Log) -> bool:
    """Ask for the mode; return False when it only comes with a reset."""
    log(f"GPU {plan.gpu.index}: {step.describe()}")
    status = gateway.set_mode(plan.gpu, step.action == ENABLE)
    gateway.forget(plan.gpu.index)
    now = gateway.gpu(plan.gpu.index)
    if now.enabled == (step.action == ENABLE):
        return True
    if status == IN_USE:
        raise _MismatchError(
            f"{plan.gpu.place} did not change its MIG mode: it is in use by a process that cannot be seen from here, such as one of "
            "another container or a display. NVIDIA's own list of what to stop: X servers, nvidia-persistenced, DCGM, monitors, every "
            "CUDA program"
        )
    if now.pending != (step.action == ENABLE):
        raise _MismatchError(
            f"{plan.gpu.place} did not accept another MIG mode, not even for after a reset (NVML's activation status is {status})"
        )
    return False


def _instances(gateway: Gateway, plan: GpuPlan, touched: List[GpuPlan], log: Log) -> None:
    _touch(touched, plan)
    places = {instance.placement: instance.id for instance in plan.gpu.instances}
    for step in plan.steps:
        # Where the mode changes, removals went before it.
        if step.action not in _MODE and not (plan.mode_changes and step.action in (REMOVE_COMPUTE, REMOVE_INSTANCE)):
            _step(gateway, plan, step, places, log)


def _touch(touched: List[GpuPlan], plan: GpuPlan) -> None:
    if plan not in touched:
        touched.append(plan)


def _step(gateway: Gateway, plan: GpuPlan, step: Step, places: Dict[Placement, int], log: Log) -> None:
    log(f"GPU {plan.gpu.index}: {step.describe()}")
    gateway.perform(plan.gpu, step, places)


def _verify(gateway: Gateway, plan: GpuPlan, original: GpuState) -> None:
    now = gateway.gpu(plan.gpu.index)
    if plan.wanted is None:
        rest: Sequence[Step] = steps_back(gateway.detailed(now), original)
    else:
        rest = plan_gpu(gateway, now, plan.uuid, plan.wanted, True).steps
    if rest:
        steps = ", ".join(step.describe() for step in rest)
        raise _MismatchError(f"GPU {plan.gpu.index} took every step and is still not as wanted: {steps}")


def _failure(error: BaseException, touched: Sequence[GpuPlan], originals: Dict[str, GpuState], trouble: Sequence[str]) -> str:
    names = ", ".join(f"GPU {plan.gpu.index}" for plan in touched)
    if not trouble:
        lost = [f"GPU {plan.gpu.index}" for plan in touched if originals[plan.uuid].enabled and not originals[plan.uuid].pending]
        but = f" That MIG was to be off after a reset of {', '.join(lost)} may not be asked for any more." if lost else ""
        return f"{error}. Everything was put back as it was found ({names}).{but}"
    return (
        f"{error}. The rollback ({names}) failed too: {'; '.join(trouble)}. The journal of what was found is kept; the next run finishes "
        "or puts back. `python3 -m forja.mig export` shows what the GPUs are now."
    )
