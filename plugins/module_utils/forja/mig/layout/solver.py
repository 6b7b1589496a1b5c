# SPDX-License-Identifier: Apache-2.0
"""From what a GPU holds to what it shall hold, touching as little as can be. Pure and exact: a test compares it with brute force.

The cheapest layout destroys the fewest compute instances, then the fewest GPU instances, then makes the fewest GPU instances.
Among equals the one stays or is made that leaves the most room (see _Room); then the lowest slots win.

What the driver allows, of which the last two are inferred from what cards list and not documented: GPU instances lie at the
placements that NVML lists and do not overlap; of each profile there are at most as many as NVML says; their compute slices and
their media engines are no more than the card has, which is the most that any profile has. What stands proves itself: a layout
that exists may stay, whatever these rules say.
"""

from collections import Counter
from itertools import product
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .assignments import Demand, Part, Spec, demands, parts
from .card import Card, Instance, Placement, Profile, Wanted
from .compute import pack
from .decision import Cost, Kept, Layout, New, NewCompute, NoLayout, untouched
from .names import ci_name

_MANY = 99
Chosen = Tuple[Tuple[Placement, Profile, Spec], ...]

__all__ = ["Cost", "Kept", "Layout", "New", "NewCompute", "NoLayout", "fits", "settled", "solve"]


def settled(card: Card, current: Sequence[Instance], wanted: Wanted) -> bool:
    """Whether nothing is to be done. Needs no placements, and ids of compute instances only for their order."""
    ids = {profile.name: profile.id for profile in card.profiles}
    if not wanted.enabled or wanted.counts or not wanted.instances:
        have = Counter((one.profile, compute.slices) for one in current for compute in one.compute)
        want: Dict[Tuple[int, int], int] = Counter()
        for name, size, count in wanted.counts if wanted.enabled else ():
            want[ids.get(name, -1), size] += count
        return have == want and all(one.compute for one in current)
    left = [(one.profile, one.placement.start, tuple(compute.slices for compute in sorted(one.compute))) for one in current]
    for spec in sorted(wanted.instances, key=lambda spec: spec.start is None):  # the pinned first: they have no choice
        for one in left:
            if (one[0], one[2]) == (ids.get(spec.profile), spec.compute) and spec.start in (None, one[1]):
                left.remove(one)
                break
        else:
            return False
    return not left


def solve(card: Card, current: Sequence[Instance], wanted: Wanted) -> Layout:
    """The cheapest layout with what was asked. Raises NoLayout. The card's profiles need their placements unless nothing is to be done."""
    if settled(card, current, wanted):
        return untouched(current)
    for name, size, count in wanted.counts:
        if count > _MANY:
            raise NoLayout(f"{count} x {ci_name(name, size)} does not fit: no card holds so many.")
    try:
        asked = demands(card.profiles, wanted)
    except KeyError as error:
        raise NoLayout(f"This card has no profile {error.args[0]}; it has {', '.join(one.name for one in card.profiles)}.") from None
    found = _search(card, current, asked)
    if found is None:
        from .nearest import explain  # only needed to explain a failure

        raise NoLayout(explain(card, asked, lambda others: _search(card, (), others, True) is not None))
    return found


def fits(card: Card, wanted: Wanted) -> bool:
    """Whether an empty card can hold it."""
    return _search(card, (), demands(card.profiles, wanted), True) is not None


class _Room:
    """How much can still be made beside occupied slots: the more the better.

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
        stands = [known[one.profile] for one in current if one.profile in known]
        amounts = [max(profile.slices for profile in card.profiles)]
        amounts += [max(profile.engines[kind] * max(profile.count, 1) for profile in card.profiles) for kind in range(4)]
        proved = _amounts(stands)
        counts = Counter(profile.id for profile in stands)
        return cls(tuple(max(pair) for pair in zip(amounts, proved)), {one.id: max(one.count, counts[one.id]) for one in card.profiles})

    def allow(self, profiles: Sequence[Profile]) -> bool:
        counts = Counter(profile.id for profile in profiles)
        return (all(need <= have for need, have in zip(_amounts(profiles), self.amounts))
                and all(count <= self.counts[number] for number, count in counts.items()))


def _amounts(profiles: Sequence[Profile]) -> List[int]:
    return [sum(one.slices for one in profiles)] + [sum(one.engines[kind] for one in profiles) for kind in range(4)]


def _mask(place: Placement) -> int:
    return ((1 << place.size) - 1) << place.start


def _search(card: Card, current: Sequence[Instance], asked: Sequence[Demand], any_will_do: bool = False) -> Optional[Layout]:
    """The best layout; with `any_will_do`, whichever is found first. None when there is none."""
    budget, room = _Budget.of(card, current), _Room(card)
    choices = [parts(demand, [one for one in current if one.profile == demand.profile.id]) for demand in asked]
    ways = sorted(product(*choices), key=_cost)
    best: Optional[Tuple[Tuple[Tuple[int, int], List[Placement]], Sequence[Part], Chosen]] = None
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
            key = ((-left[0], -left[1]), sorted(stays + [one[0] for one in chosen]))
            if best is None or key < best[0]:
                best = (key, way, chosen)
            if any_will_do:
                return _layout(current, best[1], best[2])
    return None if best is None else _layout(current, best[1], best[2])


def _cost(way: Sequence[Part]) -> Tuple[int, int, int]:
    """The order of Cost, for ways to meet the same request from the same state."""
    return -sum(part.saved for part in way), -sum(len(part.kept) for part in way), sum(len(part.new) for part in way)


def _hardest_first(one: Tuple[Profile, Spec]) -> Tuple[bool, int, str]:
    profile, spec = one
    return spec[0] is None, -max([place.size for place in profile.placements] or [0]), profile.name


def _place(rest: Sequence[Tuple[Profile, Spec]], taken: int, chosen: Chosen) -> Iterator[Tuple[int, Chosen]]:
    """Every way to place all of `rest` beside the slots of the mask `taken`; alike ones only from left to right."""
    if not rest:
        yield taken, chosen
        return
    profile, spec = rest[0]
    alike = chosen and chosen[-1][1] == profile and chosen[-1][2][0] is None and spec[0] is None
    for place in profile.placements:
        if _mask(place) & taken or (spec[0] is not None and spec[0] != place.start) or (alike and place <= chosen[-1][0]):
            continue
        yield from _place(rest[1:], taken | _mask(place), chosen + ((place, profile, spec),))


def _layout(current: Sequence[Instance], way: Sequence[Part], chosen: Chosen) -> Layout:
    kept = [Kept(instance, change.remove, change.add) for part in way for instance, change in part.kept]
    stays = {one.instance for one in kept}
    new = []
    for place, profile, (_, sizes) in chosen:
        begin = pack(profile.slices, 0, sizes)
        assert begin is not None, "parts() asks for nothing that does not fit"  # noqa: S101
        new.append(New(profile, place, tuple(NewCompute(size, start) for size, start in zip(sizes, begin))))
    return Layout(tuple(sorted(kept, key=lambda one: one.instance.placement)),
                  tuple(sorted((one for one in current if one not in stays), key=lambda one: one.placement)),
                  tuple(sorted(new, key=lambda one: one.placement)))
