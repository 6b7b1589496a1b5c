# SPDX-License-Identifier: Apache-2.0
"""Brute force: every set of placements that do not overlap, every content of each. Slow and plain; it shares no code with the planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations, combinations_with_replacement, permutations

from plugins.module_utils.forja.mig.layout.card import Card, Compute, Instance, Placement, Profile, Wanted, WantedInstance
from tests.unit.mig.cards import ci_starts

Spot = tuple[Profile, Placement]
Content = tuple[int, ...]
Cost = tuple[int, int, int]  # compute instances destroyed, GPU instances destroyed, GPU instances made
Room = tuple[int, int]  # placements that stay free: those with compute in every slot, all


def slots(place: Placement) -> frozenset[int]:
    return frozenset(range(place.start, place.start + place.size))


def best(card: Card, current: list[Instance], wanted: Wanted) -> tuple[Cost, Room] | None:
    """The lowest cost, and the most room that a layout of this cost leaves. None: nothing fits."""
    answers = []
    for target in targets(card, current, wanted):
        kept = {one: saved(card, one, target[spot], bool(wanted.instances)) for one in current
                for spot in target if spot[0].id == one.profile and spot[1] == one.placement}
        cost = (sum(len(one.compute) for one in current) - sum(kept.values()), len(current) - len(kept), len(target) - len(kept))
        answers.append((cost, tuple(-number for number in room(card, frozenset().union(*(slots(place) for _, place in target))))))
    if not answers:
        return None
    cost, left = min(answers)
    return cost, (-left[0], -left[1])


def room(card: Card, taken: frozenset[int]) -> Room:
    unit = min(place.size for profile in card.profiles for place in profile.placements)
    free = {(place, profile.slices * unit == place.size) for profile in card.profiles for place in profile.placements
            if not slots(place) & taken}
    return sum(complete for _, complete in free), len({place for place, _ in free})


def targets(card: Card, current: list[Instance], wanted: Wanted) -> Iterator[dict[Spot, Content]]:
    """Every layout that is what was asked: GPU instances and what they hold."""
    asked = {name for name, _, _ in wanted.counts} | {one.profile for one in wanted.instances}
    spots = {(profile, place) for profile in card.profiles for place in profile.placements}
    spots |= {(profile, one.placement) for one in current for profile in card.profiles if profile.id == one.profile}
    counts = Counter({(name, size): count for name, size, count in wanted.counts})
    yield from grow(card, current, sorted(spot for spot in spots if spot[0].name in asked), {}, counts, list(wanted.instances))


def grow(card: Card, current: list[Instance], spots: list[Spot], done: dict[Spot, Content],
         counts: Counter[tuple[str, int]], specs: list[WantedInstance]) -> Iterator[dict[Spot, Content]]:
    if not counts.total() and not specs and within_budget(card, [profile for profile, _ in done], current):
        yield done
    for number, (profile, place) in enumerate(spots):
        if any(slots(place) & slots(other) for _, other in done):
            continue
        for content in contents(profile.slices):
            rest = counts.copy()
            rest.subtract((profile.name, size) for size in content)
            if min(rest.values(), default=-1) >= 0:
                yield from grow(card, current, spots[number + 1:], {**done, (profile, place): content}, rest, specs)
        for spec in set(specs):
            if spec.profile == profile.name and spec.start in (None, place.start) and fits(profile.slices, [], spec.compute):
                others = list(specs)
                others.remove(spec)
                yield from grow(card, current, spots[number + 1:], {**done, (profile, place): spec.compute}, counts, others)


def within_budget(card: Card, chosen: list[Profile], current: list[Instance]) -> bool:
    """Slices and engines are no more than the most that a profile has (or as many of it as may stand), or than stands already."""
    stands = [profile for one in current for profile in card.profiles if profile.id == one.profile]
    pairs = [(sum(one.slices for one in chosen), max(max(one.slices for one in card.profiles), sum(one.slices for one in stands)))]
    for kind in range(4):
        most = max(one.engines[kind] * one.count for one in card.profiles)
        pairs.append((sum(one.engines[kind] for one in chosen), max(most, sum(one.engines[kind] for one in stands))))
    pairs += [(chosen.count(one), max(one.count, stands.count(one))) for one in card.profiles]
    return all(need <= have for need, have in pairs)


@cache
def contents(slices: int) -> list[Content]:
    """Every set of compute instances that fits into an empty GPU instance."""
    sizes = [size for size in range(1, slices + 1) if ci_starts(slices, size)]
    return [content for count in range(1, slices + 1) for content in combinations_with_replacement(sizes, count)
            if fits(slices, [], content)]


def fits(slices: int, beside: list[Compute], content: Content) -> bool:
    return lies(slices, frozenset(number for one in beside if one.placement for number in slots(one.placement)), content)


@cache
def lies(slices: int, taken: frozenset[int], content: Content) -> bool:
    """Whether compute instances of these sizes find a place each beside the slices that are taken."""
    if not content:
        return True
    spans = [frozenset(range(start, start + content[0])) for start in ci_starts(slices, content[0])]
    return any(lies(slices, taken | span, content[1:]) for span in spans if not span & taken)


def saved(card: Card, one: Instance, content: Content, ordered: bool) -> int:
    """The most compute instances that can stay while this GPU instance comes to hold this content."""
    slices = card.by_id(one.profile).slices
    return max(len(kept) for count in range(len(one.compute) + 1) for kept in map(list, combinations(one.compute, count))
               for missing in [Counter(content) - Counter(other.slices for other in kept)]
               if missing.total() + len(kept) == len(content) and fits(slices, kept, tuple(missing.elements()))
               and (not ordered or any(in_order(kept, order, content) for order in set(permutations(missing.elements())))))


def in_order(kept: list[Compute], made: Content, content: Content) -> bool:
    """Whether the compute instances, by id, have these sizes in this order, each new one having got the lowest free id."""
    ids = {one.id: one.slices for one in kept}
    for size in made:
        ids[next(number for number in range(99) if number not in ids)] = size
    return tuple(ids[number] for number in sorted(ids)) == content
