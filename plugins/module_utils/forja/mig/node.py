# SPDX-License-Identifier: Apache-2.0
"""Facade for one node: read, select, plan, change, report. The module gpu_mig and `python3 -m forja.mig` only add input and output."""

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..host.files import HostFiles
from ..host.run import Run
from .apply import HostAccess, apply_plans
from .blockers import blockers
from .config import selection as config
from .interrupted import describe, is_finished, is_leftover
from .journal import Journal, JournalEntry
from .layout import picture
from .layout.card import Card, Gpu, Wanted
from .layout.names import ci_name
from .nvml.gateway import Gateway
from .nvml.reset import Resets
from .plan import GpuPlan, PlanError, SilentDriverError, plan_node, state_of
from .rollback import Log
from .steps import RESET

Source = Union[None, str, Mapping[Any, Any]]


class Outcome(NamedTuple):
    """What a run found, did or would do."""

    label: str
    gpus: Tuple[Gpu, ...]  # as found
    uuids: Dict[int, str]
    plans: Tuple[GpuPlan, ...]
    reboot: Tuple[str, ...]  # why a reboot is required, a sentence each
    warnings: Tuple[str, ...]
    entries: Dict[str, JournalEntry]  # of an interrupted run, as far as they still count

    @property
    def changed(self) -> bool:
        return any(plan.steps for plan in self.plans)

    @property
    def data(self) -> List[Dict[str, Any]]:
        return [dict(step.data(), gpu=plan.gpu.index, gpu_uuid=plan.uuid) for plan in self.plans for step in plan.steps]

    @property
    def steps(self) -> List[str]:
        return [f"GPU {plan.gpu.index}: {step.describe()}" for plan in self.plans for step in plan.steps]


class Node:
    """A session with the GPUs of this host."""

    def __init__(self, gateway: Gateway, run: Run, files: Optional[HostFiles] = None) -> None:
        self.gateway = gateway
        self._files = files or HostFiles("/")
        self._reset = Resets(gateway, run, self._files)

    def plan(self, source: Source, label: Optional[str], reset: bool, entries: Dict[str, JournalEntry]) -> Outcome:
        """Plan what `apply` would do now; nothing is changed."""
        gpus = self.gateway.gpus()
        uuids = {gpu.index: self.gateway.uuid(gpu) for gpu in gpus}
        omitted = tuple(f"{gpu.place} is left out: {gpu.obstacle}" for gpu in gpus if gpu.obstacle)
        omitted += tuple(
            f"GPU {index} has fallen off the bus and is left out: look for Xid 79 in the kernel log, then power-cycle"
            for index in self.gateway.lost
        )
        try:
            selection = self._select(source, label, gpus, uuids)
        except config.ConfigError as error:
            raise config.ConfigError(" ".join([str(error)] + [sentence + "." for sentence in omitted])) from error
        entries, notices = self._still_ours(gpus, uuids, selection.wanted, entries)
        plans = plan_node(self.gateway, gpus, uuids, selection.wanted, entries, reset)
        notices += [
            f"{plan.gpu.place}: an interrupted run had begun to change it; what the run had found is put back: "
            f"{describe(plan.gpu, plan.back)}"
            for plan in plans
            if plan.back and plan.steps
        ]
        waits = tuple(plan.waits for plan in plans if plan.waits)
        return Outcome(selection.label, tuple(gpus), uuids, tuple(plans), waits, selection.warnings + omitted + tuple(notices), entries)

    def apply(self, source: Source, label: Optional[str], reset: bool, journal: Journal, log: Log) -> Outcome:
        """Make the GPUs what the configuration says; `journal` must be held. Raises what plan and change raise."""
        outcome = self.plan(source, label, reset, journal.entries())
        if outcome.changed:
            host = HostAccess(self._files, os.getpid(), self._reset if reset else None)
            waiting = apply_plans(self.gateway, outcome.plans, journal, outcome.entries, host, log)
            # A refused reset of a GPU whose mode was already pending changed nothing.
            plans = (_without_refused_reset(plan, waiting) for plan in outcome.plans)
            return outcome._replace(plans=tuple(plans), reboot=outcome.reboot + tuple(waiting.values()))
        # What an interrupted run left is already as wanted.
        journal.clear()
        return outcome

    def blockers(self, outcome: Outcome) -> List[Dict[str, Any]]:
        """Find the processes that use what the plan would remove; `apply` refuses with the same."""
        return blockers(self.gateway, self._files, [plan for plan in outcome.plans if plan.steps], os.getpid())

    def _still_ours(
        self, gpus: Sequence[Gpu], uuids: Dict[int, str], wanted: Dict[int, Wanted], entries: Dict[str, JournalEntry]
    ) -> Tuple[Dict[str, JournalEntry], List[str]]:
        """Return the entries of an interrupted run that still count, and a warning for each GPU that somebody has taken over since."""
        counting = dict(entries)
        warnings = []
        for gpu in gpus:
            entry = entries.get(uuids[gpu.index])
            if entry is None:
                continue
            gpu = self.gateway.detailed(gpu)
            why = None
            if not is_leftover(entry, gpu):
                why = "somebody has changed it since"
            elif gpu.index not in wanted and is_finished(entry, gpu) and self.gateway.processes(gpu):
                why = "it is finished, and in use"
            if why:
                del counting[uuids[gpu.index]]
            if why and gpu.index not in wanted:
                warnings.append(
                    f"{gpu.place}: an interrupted run had begun to change it, but {why}: {describe(gpu, state_of(gpu))} stays there. "
                    f"The run had found {describe(gpu, entry.found)}"
                )
        return counting, warnings

    def _select(self, source: Source, label: Optional[str], gpus: Sequence[Gpu], uuids: Dict[int, str]) -> config.Selection:
        known = [
            config.Gpu(
                index=gpu.index,
                uuid=uuids[gpu.index],
                address=gpu.address,
                device=gpu.device,
                subsystem=gpu.subsystem,
                name=gpu.name,
                capable=gpu.capable,
                profiles=tuple(profile.name for profile in gpu.profiles),
                obstacle=gpu.obstacle,
            )
            for gpu in gpus
        ]
        if source is not None:
            requested = config.load(source)
            try:
                return requested.select(label, known)
            except config.ConfigError as error:
                silent = [gpu for gpu in gpus if gpu.capable and not gpu.profiles and not gpu.enabled]
                if not silent:
                    raise
                raise SilentDriverError(silent[0]) from error
        from .config import labels as builtin

        # How many fit is the same on GPUs of one kind; the plan itself reads each board.
        kinds: Dict[Any, Card] = {}
        cards: Dict[int, Card] = {}
        for gpu in gpus:
            kind = gpu.device, gpu.subsystem, gpu.profiles
            if gpu.capable and kind not in kinds:
                kinds[kind] = self.gateway.card(gpu)
            if gpu.capable:
                cards[gpu.index] = kinds[kind]
        if label is None:
            raise PlanError(f"Without a configuration a label is needed, one of: {', '.join(builtin.labels(cards))}.")
        silent = [gpu for gpu in gpus if gpu.capable and not cards[gpu.index].profiles]
        if silent and label not in ("all-disabled", "all-enabled"):
            raise SilentDriverError(silent[0])
        return builtin.select(label, known, cards)

    # Reports

    def devices(self) -> List[Dict[str, Any]]:
        """List the MIG devices that exist now: UUID, profile, GPU, ids, placement."""
        found = []
        for gpu in self.gateway.gpus():
            if not (gpu.enabled and gpu.instances):
                continue
            gpu = self.gateway.detailed(gpu)
            names = {profile.id: profile.name for profile in gpu.profiles}
            uuids = {(device.gpu_instance, device.compute_instance): device.uuid for device in self.gateway.mig_devices(gpu)}
            gpu_uuid = self.gateway.uuid(gpu)
            for instance in gpu.instances:
                for compute in instance.compute:
                    found.append(
                        {
                            "uuid": uuids.get((instance.id, compute.id)),
                            "profile": ci_name(names[instance.profile], compute.slices),
                            "gpu": gpu.index,
                            "gpu_uuid": gpu_uuid,
                            "gpu_address": gpu.address,
                            "gpu_instance": instance.id,
                            "compute_instance": compute.id,
                            "placement": {"start": instance.placement.start, "size": instance.placement.size},
                        }
                    )
        return found


def pictures(gateway: Gateway, plans: Sequence[GpuPlan]) -> Tuple[str, str]:
    """Draw the GPUs that change, before and after, as text whose unified diff shows the slots."""
    before: List[str] = []
    after: List[str] = []
    for plan in plans:
        if not plan.steps:
            continue
        card = gateway.card(plan.gpu)
        title = f"GPU {plan.gpu.index} {plan.gpu.name} ({plan.gpu.address})"
        before += [title] + _drawn(card, plan.gpu.enabled, picture.before(plan.gpu.instances, card))
        target = picture.after(plan.layout, card) if plan.layout else picture.before(plan.back.instances if plan.back else (), card)
        after += [title] + _drawn(card, plan.target_mode, target)
    return "".join(line + "\n" for line in before), "".join(line + "\n" for line in after)


def _drawn(card: Card, enabled: bool, shown: Sequence[picture.Shown]) -> List[str]:
    return picture.draw(card, shown) if enabled else ["  MIG is disabled"]


def _without_refused_reset(plan: GpuPlan, waiting: Mapping[str, str]) -> GpuPlan:
    return plan._replace(steps=()) if plan.uuid in waiting and plan.steps[0].action == RESET else plan
