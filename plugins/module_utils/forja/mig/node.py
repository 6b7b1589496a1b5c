# SPDX-License-Identifier: Apache-2.0
"""One node from end to end: look, select, plan, change, report. The module gpu_mig and `python3 -m forja.mig` are this and words."""

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..host.files import HostFiles
from ..host.run import Run
from .apply import Means, carry_out
from .blockers import blockers
from .config import selection as config
from .interrupted import could_leave, finished
from .interrupted import words as shown
from .journal import Journal, Left
from .layout import picture
from .layout.card import Card, Gpu, Wanted
from .layout.names import ci_name
from .nvml.gateway import Gateway
from .nvml.reset import Resets
from .plan import GpuPlan, PlanError, SilentDriverError, found, plan
from .rollback import Say
from .steps import DISABLE, ENABLE

Source = Union[None, str, Mapping[Any, Any]]


class Outcome(NamedTuple):
    """What a run found, did or would do."""

    label: str
    gpus: Tuple[Gpu, ...]  # as found
    uuids: Dict[int, str]
    plans: Tuple[GpuPlan, ...]
    reboot: Tuple[str, ...]  # why a reboot is required, a sentence each
    warnings: Tuple[str, ...]
    left: Dict[str, Left]  # what of a killed run counts still

    @property
    def changed(self) -> bool:
        return any(one.steps for one in self.plans)

    @property
    def data(self) -> List[Dict[str, Any]]:
        return [dict(step.data(), gpu=one.gpu.index, gpu_uuid=one.uuid) for one in self.plans for step in one.steps]

    @property
    def words(self) -> List[str]:
        return [f"GPU {one.gpu.index}: {step.words()}" for one in self.plans for step in one.steps]


class Node:
    """A session with the GPUs of this host."""

    def __init__(self, gateway: Gateway, run: Run, files: Optional[HostFiles] = None) -> None:
        self.gateway = gateway
        self._files = files or HostFiles("/")
        self._reset = Resets(gateway, run, self._files)

    def plan(self, source: Source, label: Optional[str], reset: bool, left: Dict[str, Left]) -> Outcome:
        """What `settle` would do now; nothing is changed."""
        gpus = self.gateway.gpus()
        uuids = {gpu.index: self.gateway.uuid(gpu) for gpu in gpus}
        lost = tuple(
            f"GPU {index} has fallen off the bus and is left out: look for Xid 79 in the kernel log, then power-cycle"
            for index in self.gateway.lost
        )
        try:
            selection = self._select(source, label, gpus, uuids)
        except config.ConfigError as error:
            raise config.ConfigError(" ".join([str(error)] + [sentence + "." for sentence in lost])) from error
        left, killed = self._still_ours(gpus, uuids, selection.wanted, left)
        plans = plan(self.gateway, gpus, uuids, selection.wanted, left, reset)
        killed += [
            f"GPU {one.gpu.index} ({one.gpu.address}): a run that was killed had begun to change it; what the run had found is put "
            f"back: {shown(one.gpu, one.back)}"
            for one in plans
            if one.back and one.steps
        ]
        waits = tuple(one.waits for one in plans if one.waits)
        return Outcome(selection.label, tuple(gpus), uuids, tuple(plans), waits, selection.warnings + lost + tuple(killed), left)

    def settle(self, source: Source, label: Optional[str], reset: bool, journal: Journal, say: Say) -> Outcome:
        """Make the GPUs what the configuration says; `journal` must be held. Raises what plan and change raise."""
        outcome = self.plan(source, label, reset, journal.left())
        if outcome.changed:
            means = Means(self._files, os.getpid(), self._reset if reset else None)
            waiting = carry_out(self.gateway, outcome.plans, journal, outcome.left, means, say)
            return outcome._replace(reboot=outcome.reboot + tuple(waiting))
        # What a killed run left is as it should be already.
        journal.clear()
        return outcome

    def blockers(self, outcome: Outcome) -> List[Dict[str, Any]]:
        """Who uses what the plan would remove; `settle` refuses with the same."""
        return blockers(self.gateway, self._files, [one for one in outcome.plans if one.steps], os.getpid())

    def _still_ours(
        self, gpus: Sequence[Gpu], uuids: Dict[int, str], wanted: Dict[int, Wanted], left: Dict[str, Left]
    ) -> Tuple[Dict[str, Left], List[str]]:
        """What counts of what a killed run left, and warnings: a GPU that somebody has taken over since is theirs."""
        counts = dict(left)
        theirs = []
        for gpu in gpus:
            one = left.get(uuids[gpu.index])
            if one is None:
                continue
            gpu = self.gateway.detailed(gpu)
            why = None
            if not could_leave(one, gpu):
                why = "somebody has changed it since"
            elif gpu.index not in wanted and finished(one, gpu) and self.gateway.processes(gpu):
                why = "it is finished, and in use"
            if why:
                del counts[uuids[gpu.index]]
            if why and gpu.index not in wanted:
                theirs.append(
                    f"GPU {gpu.index} ({gpu.address}): a run that was killed had begun to change it, but {why}: "
                    f"{shown(gpu, found(gpu))} stays there. The run had found {shown(gpu, one.found)}"
                )
        return counts, theirs

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
            )
            for gpu in gpus
        ]
        if source is not None:
            wishes = config.load(source)
            try:
                return wishes.select(label, known)
            except config.ConfigError as error:
                silent = [gpu for gpu in gpus if gpu.capable and not gpu.profiles and not gpu.enabled]
                if not silent:
                    raise
                raise SilentDriverError(silent[0]) from error
        from .config import labels as defaults

        # How many fit is the same on GPUs of one kind; the plan itself asks each board.
        kinds: Dict[Any, Card] = {}
        cards: Dict[int, Card] = {}
        for gpu in gpus:
            kind = gpu.device, gpu.subsystem, gpu.profiles
            if gpu.capable and kind not in kinds:
                kinds[kind] = self.gateway.card(gpu)
            if gpu.capable:
                cards[gpu.index] = kinds[kind]
        if label is None:
            raise PlanError(f"Without a configuration a label is needed, one of: {', '.join(defaults.labels(cards))}.")
        silent = [gpu for gpu in gpus if gpu.capable and not cards[gpu.index].profiles]
        if silent and label not in ("all-disabled", "all-enabled"):
            raise SilentDriverError(silent[0])
        return defaults.select(label, known, cards)

    # Reports

    def devices(self) -> List[Dict[str, Any]]:
        """The MIG devices there are now: UUID, profile, GPU, ids, placement."""
        found = []
        for gpu in self.gateway.gpus():
            if not (gpu.enabled and gpu.instances):
                continue
            gpu = self.gateway.detailed(gpu)
            names = {profile.id: profile.name for profile in gpu.profiles}
            uuids = {(one.gpu_instance, one.compute_instance): one.uuid for one in self.gateway.mig_devices(gpu)}
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
    """The GPUs that change, before and after, as text whose unified diff shows the slots."""
    before: List[str] = []
    after: List[str] = []
    for one in plans:
        if not one.steps:
            continue
        card = gateway.card(one.gpu)
        title = f"GPU {one.gpu.index} {one.gpu.name} ({one.gpu.address})"
        before += [title] + _drawn(card, one.gpu.enabled, picture.before(one.gpu.instances, card))
        then = picture.after(one.layout, card) if one.layout else picture.before(one.back.instances if one.back else (), card)
        after += [title] + _drawn(card, _enabled_after(one), then)
    return "".join(line + "\n" for line in before), "".join(line + "\n" for line in after)


def _drawn(card: Card, enabled: bool, shown: Sequence[picture.Shown]) -> List[str]:
    return picture.draw(card, shown) if enabled else ["  MIG is disabled"]


def _enabled_after(one: GpuPlan) -> bool:
    for step in one.steps:
        if step.action in (ENABLE, DISABLE):
            return step.action == ENABLE
    return one.wanted.enabled if one.wanted else one.gpu.enabled
