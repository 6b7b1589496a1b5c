# SPDX-License-Identifier: Apache-2.0
"""Decisions of the planner for one GPU: which instances stay, which are removed, which are made, and where."""

from typing import NamedTuple, Sequence, Tuple

from ...host.errors import ForjaError
from .card import Compute, Instance, Placement, Profile


class NoLayout(ForjaError):  # noqa: N818  (it is an answer)
    """Raised when the request does not fit on this card. The message says what was requested, why not, and what fits."""


class NewCompute(NamedTuple):
    """A compute instance to make inside a GPU instance."""

    slices: int
    start: int  # its first compute slice within the GPU instance: NVML's placement is (start, slices)


class Kept(NamedTuple):
    """A GPU instance that stays where it is. With nothing to remove and nothing to add it is not touched at all."""

    instance: Instance
    remove: Tuple[Compute, ...]  # of its compute instances, in no particular order; before anything is added
    add: Tuple[NewCompute, ...]  # in the order in which they are to be made

    @property
    def compute(self) -> Tuple[int, ...]:
        """Return the slices of its compute instances afterwards, by their id: a new one gets the lowest free id."""
        by_id = {part.id: part.slices for part in self.instance.compute if part not in self.remove}
        for new in self.add:
            by_id[min(set(range(len(by_id) + 1)) - set(by_id))] = new.slices
        return tuple(by_id[number] for number in sorted(by_id))


class New(NamedTuple):
    """A GPU instance to make at exactly this placement, with its compute instances in the order in which they are to be made."""

    profile: Profile
    placement: Placement
    compute: Tuple[NewCompute, ...]


class Cost(NamedTuple):
    """Cost of a layout; compared field by field, lower is better."""

    compute_destroyed: int  # MIG devices that somebody may be using
    destroyed: int  # GPU instances
    created: int  # GPU instances
    compute_created: int


class Layout(NamedTuple):
    """First all of `gone` goes (compute instances before their GPU instance) and each `remove`, then `new` and each `add` is made."""

    kept: Tuple[Kept, ...]  # by their first slot
    gone: Tuple[Instance, ...]  # by their first slot
    new: Tuple[New, ...]  # by their first slot

    @property
    def changed(self) -> bool:
        return bool(self.gone or self.new or any(kept.remove or kept.add for kept in self.kept))

    @property
    def cost(self) -> Cost:
        return Cost(
            sum(len(instance.compute) for instance in self.gone) + sum(len(kept.remove) for kept in self.kept),
            len(self.gone), len(self.new),
            sum(len(new.compute) for new in self.new) + sum(len(kept.add) for kept in self.kept))


def untouched(current: Sequence[Instance]) -> Layout:
    return Layout(tuple(Kept(instance, (), ()) for instance in sorted(current, key=lambda instance: instance.placement)), (), ())

