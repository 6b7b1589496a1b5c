# SPDX-License-Identifier: Apache-2.0
"""Find the layout that changes the least. Pure and exact: a test compares it with brute force.

The cheapest layout destroys the fewest compute instances, then the fewest GPU instances, then makes the fewest GPU instances.
Among equals, the layout that leaves the most room wins (see _Room), then the one with the lowest slots.

What the driver allows, of which the last two are inferred from what cards list and not documented: GPU instances lie at the
placements that NVML lists and do not overlap; of each profile there are at most as many as NVML says; their compute slices and
their media engines are no more than the card has, which is the most that any profile has. What stands proves itself: a layout
that exists may stay, whatever these rules say.
"""

from collections import Counter
from itertools import product
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .assignments import Assignment, Demand, Spec, assignments, demands
from .card import Card, Instance, Placement, Profile, Wanted
from .compute import pack
from .decision import Cost, Kept, Layout, New, NewCompute, NoLayout, untouched
from .names import ci_name

_MANY = 99
Chosen = Tuple[Tuple[Placement, Profile, Spec], ...]

__all__ = ["Cost", "Kept", "Layout", "New", "NewCompute", "NoLayout", "fits", "is_settled", "solve"]


def is_settled(card: Card, current: Sequence[Instance], wanted: Wanted) -> bool:
    """Return whether nothing is to be done. Needs no placements, and ids of compute instances only for their order."""
    ids = {profile.name: profile.id for profile in card.profiles}
    if not wanted.enabled or wanted.counts or not wanted.instances:
        have = Counter((instance.profile, compute.slices) for instance in current for compute in instance.compute)
        want: Dict[Tuple[int, int], int] = Counter()
        for name, size, count in wanted.counts if wanted.enabled else ():
            want[ids.get(name, -1), size] += count
        return have == want and all(instance.compute for instance in current)
    left = [(instance.profile, instance.placement.start, tuple(compute.slices for compute in sorted(instance.compute)))
            for instance in current]
    for spec in sorted(wanted.instances, key=lambda spec: spec.start is None):  # the pinned first: they have no choice
        for candidate in left:
            if (candidate[0], candidate[2]) == (ids.get(spec.profile), spec.compute) and spec.start in (None, candidate[1]):
                left.remove(candidate)
                break
        else:
            return False
    return not left


def solve(card: Card, current: Sequence[Instance], wanted: Wanted) -> Layout:
    """Find the cheapest layout with what is wanted; needs placements unless nothing is to be done. Raises NoLayout."""
    if is_settled(card, current, wanted):
        return untouched(current)
    for name, size, count in wanted.counts:
        if count > _MANY:
            raise NoLayout(f"{count} x {ci_name(name, size)} does not fit: no card holds so many.")
    try:
        asked = demands(card.profiles, wanted)
    except KeyError as error:
        names = ", ".join(profile.name for profile in card.profiles)
        raise NoLayout(f"This card has no profile {error.args[0]}; it has {names}.") from None
    found = _search(card, current, asked)
    if found is None:
        from .nearest import explain  # only needed to explain a failure

        raise NoLayout(explain(card, asked, lambda others: _search(card, (), others, True) is not None))
    return found


def fits(card: Card, wanted: Wanted) -> bool:
    """Return whether an empty card can hold it."""
    return _search(card, (), demands(card.profiles, wanted), True) is not None


class _Room:
    """Count how much can still be made beside occupied slots: the more the better.

    Counted as the driver does when it chooses by itself: distinct placements that are still free, first those in which every
    slot has its compute (3g and the double-memory 1g are not), then all.
    """

    def __init__(self, card: Card) -> None:
        places = {place: _mask(place) for profile in card.profiles for place in profile.placements}
        unit = min([place.size for place in places] or [1])
        complete = {place for profile in card.profiles for place in profile.placements if place.size == profile.slices * unit}
        self._complete = [mask for place, mask in places.items() if place in complete]
        self._all = list(places.values())
        self._known: Dict[int, Tuple[int, int]] = {}

    def left(self, taken: int) -> Tuple[int, int]:
        if taken not in self._known:
            self._known[taken] = (sum(1 for mask in self._complete if not mask & taken), sum(1 for mask in self._all if not mask & taken))
        return self._known[taken]


class _Budget(NamedTuple):
    """Compute slices and engines that a card has, and how many of each profile."""

    amounts: Tuple[int, ...]
    counts: Dict[int, int]

    @classmethod
    def of(cls, card: Card, current: Sequence[Instance]) -> "_Budget":
        known = {profile.id: profile for profile in card.profiles}
        existing = [known[instance.profile] for instance in current if instance.profile in known]
        amounts = [max(profile.slices for profile in card.profiles)]
        amounts += [max(profile.engines[kind] * max(profile.count, 1) for profile in card.profiles) for kind in range(4)]
        proved = _amounts(existing)
        counts = Counter(profile.id for profile in existing)
        return cls(tuple(max(pair) for pair in zip(amounts, proved)),
                   {profile.id: max(profile.count, counts[profile.id]) for profile in card.profiles})

    def allow(self, profiles: Sequence[Profile]) -> bool:
        counts = Counter(profile.id for profile in profiles)
        return (all(need <= have for need, have in zip(_amounts(profiles), self.amounts))
                and all(count <= self.counts[number] for number, count in counts.items()))


def _amounts(profiles: Sequence[Profile]) -> List[int]:
    return [sum(profile.slices for profile in profiles)] + [sum(profile.engines[kind] for profile in profiles) for kind in range(4)]


def _mask(place: Placement) -> int:
    return ((1 << place.size) - 1) << place.start


def _search(card: Card, current: Sequence[Instance], asked: Sequence[Demand], first_found: bool = False) -> Optional[Layout]:
    """Find the best layout, or with `first_found` any; None when there is none."""
    budget, room = _Budget.of(card, current), _Room(card)
    choices = [assignments(demand, [instance for instance in current if instance.profile == demand.profile.id]) for demand in asked]
    ways = sorted(product(*choices), key=_cost)
    best: Optional[Tuple[Tuple[Tuple[int, int], List[Placement]], Sequence[Assignment], Chosen]] = None
    for way in ways:
        if best is not None and _cost(way) != _cost(best[1]):
            break
        profiles = [demand.profile for demand, part in zip(asked, way) for _ in range(len(part.kept) + len(part.new))]
        if not budget.allow(profiles):
            continue
        stays = [instance.placement for part in way for instance, _ in part.kept]
        to_place = sorted(((demand.profile, spec) for demand, part in zip(asked, way) for spec in part.new), key=_hardest_first)
        for taken, chosen in _place(to_place, sum(_mask(place) for place in stays), ()):
            left = room.left(taken)
            key = ((-left[0], -left[1]), sorted(stays + [choice[0] for choice in chosen]))
            if best is None or key < best[0]:
                best = (key, way, chosen)
            if first_found:
                return _layout(current, best[1], best[2])
    return None if best is None else _layout(current, best[1], best[2])


def _cost(way: Sequence[Assignment]) -> Tuple[int, int, int]:
    """The order of Cost, for ways to meet the same request from the same state."""
    return -sum(part.saved for part in way), -sum(len(part.kept) for part in way), sum(len(part.new) for part in way)


def _hardest_first(item: Tuple[Profile, Spec]) -> Tuple[bool, int, str]:
    profile, spec = item
    return spec[0] is None, -max([place.size for place in profile.placements] or [0]), profile.name


def _place(rest: Sequence[Tuple[Profile, Spec]], taken: int, chosen: Chosen) -> Iterator[Tuple[int, Chosen]]:
    """Yield every way to place all of `rest` beside the slots of the mask `taken`; equal ones only from left to right."""
    if not rest:
        yield taken, chosen
        return
    profile, spec = rest[0]
    alike = chosen and chosen[-1][1] == profile and chosen[-1][2][0] is None and spec[0] is None
    for place in profile.placements:
        if _mask(place) & taken or (spec[0] is not None and spec[0] != place.start) or (alike and place <= chosen[-1][0]):
            continue
        yield from _place(rest[1:], taken | _mask(place), chosen + ((place, profile, spec),))


def _layout(current: Sequence[Instance], way: Sequence[Assignment], chosen: Chosen) -> Layout:
    kept = [Kept(instance, change.remove, change.add) for part in way for instance, change in part.kept]
    kept_instances = {item.instance for item in kept}
    new = []
    for place, profile, (_, sizes) in chosen:
        begin = pack(profile.slices, 0, sizes)
        assert begin is not None, "assignments() asks only for what fits"  # noqa: S101
        new.append(New(profile, place, tuple(NewCompute(size, start) for size, start in zip(sizes, begin))))
    return Layout(tuple(sorted(kept, key=lambda item: item.instance.placement)),
                  tuple(sorted((gone for gone in current if gone not in kept_instances), key=lambda instance: instance.placement)),
                  tuple(sorted(new, key=lambda item: item.placement)))
