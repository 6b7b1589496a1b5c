# SPDX-License-Identifier: Apache-2.0
"""Carry out the plans of a node: all of them, or none. Whatever fails midway, every GPU is put back as it was found (restore.py)."""

import contextlib
from functools import partial
from typing import Any, Dict, List, NamedTuple, Sequence

from ..host.errors import ForjaError
from .blockers import blockers, words
from .journal import Found, Journal, Left
from .layout.card import Placement
from .nvml.gateway import Gateway
from .nvml.session import IN_USE, GatewayError, StoppedError
from .plan import GpuPlan, found, goal, plan_gpu, steps_back
from .rollback import Reset, Say, restore, undisturbed
from .steps import DISABLE, ENABLE, REMOVE_COMPUTE, REMOVE_INSTANCE, RESET, Step

_MODE = (ENABLE, DISABLE, RESET)


class BusyError(ForjaError):
    """Somebody uses what would go; nothing was changed. `blockers` has a record a process."""

    def __init__(self, found: List[Dict[str, Any]]) -> None:
        self.blockers = found
        super().__init__(
            f"In use, so nothing was changed: {'; '.join(map(words, found))}. Stop them, or ask for a layout that keeps their instances."
        )


class ChangeError(ForjaError):
    """The change failed. `restored` tells whether every GPU is again as it was found."""

    def __init__(self, message: str, restored: bool) -> None:
        self.restored = restored
        super().__init__(message)


class Means(NamedTuple):
    """What a change needs of the host."""

    files: Any  # HostFiles, to name processes
    pid: int  # our own
    reset: Reset


def carry_out(gateway: Gateway, plans: Sequence[GpuPlan], journal: Journal, left: Dict[str, Left], means: Means, say: Say) -> List[str]:
    """Do it, and look whether it is so; the answer is why a reboot is required, a sentence each. The journal must be held."""
    say = _heard_or_not(say)
    changing = [one for one in plans if one.steps]
    in_the_way = blockers(gateway, means.files, changing, means.pid)
    if in_the_way:
        raise BusyError(in_the_way)
    notes = dict(left)
    for one in changing:
        # Of a GPU that a killed run changed, what that run found counts: it is what its users last chose.
        note = left.get(one.uuid) or Left(found(one.gpu), ())
        notes[one.uuid] = note._replace(heading=note.heading + (goal(one),)) if one.wanted else note
    was = {uuid: note.found for uuid, note in notes.items()}
    journal.write(notes)
    # What a killed run changed is part of this change, finished or not: it is put back with the rest.
    begun = [one for one in plans if one.uuid in left]
    try:
        waiting = _modes(gateway, changing, begun, means, say)
        for one in changing:
            if one.uuid not in waiting:
                _instances(gateway, one, begun, say)
        for one in changing:
            if one.uuid not in waiting:
                _check(gateway, one, was[one.uuid])
    except BaseException as error:  # also an interrupt: half a layout serves nobody
        trouble = undisturbed(partial(restore, gateway, begun, was, means.reset, say))
        if not trouble:
            undisturbed(journal.clear)
        if not isinstance(error, (GatewayError, _NotThereError, StoppedError)):
            raise
        raise ChangeError(_failure(error, begun, was, trouble), not trouble) from error
    undisturbed(journal.clear)
    return [waiting[one.uuid] for one in changing if one.uuid in waiting]


def _heard_or_not(say: Say) -> Say:
    """A terminal that is gone must not stop us halfway."""

    def told(words: str) -> None:
        with contextlib.suppress(OSError):
            say(words)

    return told


class _NotThereError(ForjaError):
    """Everything answered well, and still it is not as wanted."""


def _modes(gateway: Gateway, plans: Sequence[GpuPlan], begun: List[GpuPlan], means: Means, say: Say) -> Dict[str, str]:
    """All mode changes come before all new instances: one reset may take several GPUs, and what they hold."""
    waiting: Dict[str, str] = {}
    resets: List[GpuPlan] = []
    for one in plans:
        if not one.mode_changes:
            continue
        _begin(begun, one)
        for step in one.steps:
            if step.action in (ENABLE, DISABLE):
                if not _mode(gateway, one, step, say):
                    resets.append(one)
            elif step.action == RESET:
                resets.append(one)
            elif step.action in (REMOVE_COMPUTE, REMOVE_INSTANCE):
                _step(gateway, one, step, {}, say)
    if resets and means.reset:
        say(f"Reset {', '.join(f'GPU {one.gpu.index} ({one.gpu.address})' for one in resets)}")
        means.reset([one.gpu for one in resets])
        for one in plans:  # for handles of this session, also where no mode changes
            gateway.detailed(gateway.gpu(one.gpu.index))
    elif resets:
        for one in resets:
            waiting[one.uuid] = f"MIG mode of GPU {one.gpu.index} ({one.gpu.address}) changes only with a reset of the GPU or a reboot"
    return waiting


def _mode(gateway: Gateway, one: GpuPlan, step: Step, say: Say) -> bool:
    """Ask for the mode; False when it only comes with a reset."""
    say(f"GPU {one.gpu.index}: {step.words()}")
    status = gateway.set_mode(one.gpu, step.action == ENABLE)
    gateway.forget(one.gpu.index)
    now = gateway.gpu(one.gpu.index)
    if now.enabled == (step.action == ENABLE):
        return True
    if status == IN_USE:
        raise _NotThereError(
            f"GPU {one.gpu.index} ({one.gpu.address}) would not change its MIG mode: it is in use by somebody who cannot be seen from "
            "here, such as a"
            " process of another container or a display. NVIDIA's own list of what to stop: X servers, nvidia-persistenced, DCGM,"
            " monitors, every CUDA program"
        )
    if now.pending != (step.action == ENABLE):
        raise _NotThereError(
            f"GPU {one.gpu.index} ({one.gpu.address}) did not accept another MIG mode, not even for after a reset (NVML's activation "
            f"status is {status})"
        )
    return False


def _instances(gateway: Gateway, one: GpuPlan, begun: List[GpuPlan], say: Say) -> None:
    _begin(begun, one)
    places = {instance.placement: instance.id for instance in one.gpu.instances}
    for step in one.steps:
        # Where the mode changes, what was there went before it.
        if step.action not in _MODE and not (one.mode_changes and step.action in (REMOVE_COMPUTE, REMOVE_INSTANCE)):
            _step(gateway, one, step, places, say)


def _begin(begun: List[GpuPlan], one: GpuPlan) -> None:
    if one not in begun:
        begun.append(one)


def _step(gateway: Gateway, one: GpuPlan, step: Step, places: Dict[Placement, int], say: Say) -> None:
    say(f"GPU {one.gpu.index}: {step.words()}")
    gateway.perform(one.gpu, step, places)


def _check(gateway: Gateway, one: GpuPlan, was: Found) -> None:
    now = gateway.gpu(one.gpu.index)
    if one.wanted is None:
        rest: Sequence[Step] = steps_back(gateway.detailed(now), was)
    else:
        rest = plan_gpu(gateway, now, one.uuid, one.wanted, True).steps
    if rest:
        todo = ", ".join(step.words() for step in rest)
        raise _NotThereError(f"GPU {one.gpu.index} took every step and is still not as wanted: {todo}")


def _failure(error: BaseException, begun: Sequence[GpuPlan], was: Dict[str, Found], trouble: Sequence[str]) -> str:
    names = ", ".join(f"GPU {one.gpu.index}" for one in begun)
    if not trouble:
        lost = [f"GPU {one.gpu.index}" for one in begun if was[one.uuid].enabled and not was[one.uuid].pending]
        but = f" That MIG was to be off after a reset of {', '.join(lost)} may not be asked for any more." if lost else ""
        return f"{error}. Everything was put back as it was found ({names}).{but}"
    return (
        f"{error}. Putting back what was found ({names}) failed too: {'; '.join(trouble)}. The note of what was there is kept; the "
         "next run finishes or puts"
        " back. `python3 -m forja.mig export` shows what is there now."
    )
