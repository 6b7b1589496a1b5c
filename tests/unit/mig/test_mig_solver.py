# SPDX-License-Identifier: Apache-2.0
"""The planner against brute force. Exhaustive: every set of GPU instances that an empty card can hold, and every smallest one that it
cannot, on every card and board; on the A30 also from every layout to every other. Drawn: layouts and requests of all kinds on all of them.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils.forja.mig.layout import compute
from plugins.module_utils.forja.mig.layout.card import Card, Compute, Instance, Placement, Profile, Wanted, WantedInstance
from plugins.module_utils.forja.mig.layout.solver import NoLayout, fits, is_settled, solve
from tests.unit.mig import oracle
from tests.unit.mig.cards import A30, A100, A100_LEAF_3, CARDS, H100, MODELS, RTX, applied, ci_starts, instance

Whole = frozenset[tuple[Profile, Placement]]  # a layout, each GPU instance with one compute instance that fills it
each_card = pytest.mark.parametrize("name", CARDS)
BOARDS = {"A30": A30, "A100": A100, "A100 without 3": A100_LEAF_3, "H100": H100,
          "H100 without 3": CARDS["h100-80gb-sxm, slot 3 without compute"], "RTX PRO 6000": RTX}  # all that differ in more than names


@cache
def layouts(card: Card) -> list[Whole]:
    """Every layout that the card can have."""
    spots = sorted((profile, place) for profile in card.profiles for place in profile.placements)

    def grow(done: list[tuple[Profile, Placement]], first: int) -> list[Whole]:
        found = [frozenset(done)]
        for number, (profile, place) in enumerate(spots[first:], first):
            more = [*done, (profile, place)]
            free = not any(oracle.slots(place) & oracle.slots(other) for _, other in done)
            if free and oracle.within_budget(card, [one for one, _ in more], []):
                found += grow(more, number + 1)
        return found

    return grow([], 0)


@cache
def by_request(card: Card) -> dict[Wanted, list[Whole]]:
    """The layouts of the card, by what one would ask to get them."""
    found: dict[Wanted, list[Whole]] = {}
    for layout in layouts(card):
        found.setdefault(whole(profile for profile, _ in layout), []).append(layout)
    return found


def whole(profiles: Any) -> Wanted:
    return Wanted(True, tuple(sorted((profile.name, profile.slices, count) for profile, count in Counter(profiles).items())))


def standing(layout: Whole) -> list[Instance]:
    return [Instance(number, profile.id, place, (Compute(0, 0, profile.slices, Placement(0, profile.slices)),))
            for number, (profile, place) in enumerate(sorted(layout))]


def counts(*asked: tuple[str, int, int]) -> Wanted:
    return Wanted(True, asked)


def cheapest(current: Whole, targets: list[Whole]) -> tuple[int, int, int]:
    stays = max(len(current & target) for target in targets)
    return len(current) - stays, len(current) - stays, len(targets[0]) - stays


def check(card: Card, current: list[Instance], wanted: Wanted) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Solves, applies, and holds the result against what must be true of any; its cost and the room that it leaves."""
    layout = solve(card, current, wanted)
    after = applied(card, current, layout)
    assert is_settled(card, after, wanted)
    assert not solve(card, after, wanted).changed
    assert layout.changed != is_settled(card, current, wanted)
    assert layout.cost.compute_created == (sum(len(one.compute) for one in after) - sum(len(one.compute) for one in current)
                                           + layout.cost.compute_destroyed)
    assert [kept.compute for kept in layout.kept] == [
        tuple(one.slices for one in sorted(found.compute)) for kept in layout.kept for found in after if found.id == kept.instance.id]
    taken = frozenset(slot for one in after for slot in oracle.slots(one.placement))
    return layout.cost[:3], oracle.room(card, taken)


# --- exhaustive --------------------------------------------------------------------------------------------------------


@each_card
def test_an_empty_card_holds_just_what_brute_force_holds(name: str) -> None:
    card = CARDS[name]
    for wanted, targets in by_request(card).items():
        cost, room = check(card, [], wanted)
        assert cost == (0, 0, len(targets[0]))
        assert room == max(oracle.room(card, frozenset().union(*(oracle.slots(place) for _, place in target))) for target in targets)
    for layout in {wanted: found[0] for wanted, found in by_request(card).items()}.values():
        for one in card.profiles:
            more = whole([one, *(profile for profile, _ in layout)])
            assert fits(card, more) == (more in by_request(card)), more


def test_the_a30_from_every_layout_to_every_other() -> None:
    for current in layouts(A30):
        for wanted, targets in by_request(A30).items():
            assert check(A30, standing(current), wanted)[0] == cheapest(current, targets)


@pytest.mark.parametrize("name", BOARDS)
def test_from_drawn_layouts_to_drawn_others(name: str) -> None:
    card, draw = BOARDS[name], random.Random(20250101)
    for _ in range(400):
        current, wanted = draw.choice(layouts(card)), draw.choice(sorted(by_request(card)))
        assert check(card, standing(current), wanted)[0] == cheapest(current, by_request(card)[wanted])


def test_what_the_rules_of_the_cards_rest_on() -> None:
    """The inferred ones, against the listings: so many of each profile fit, and no profile has more engines than the budget."""
    for name, card in CARDS.items():
        for profile in card.profiles:
            one = (profile.name, profile.slices)
            assert fits(card, counts((*one, profile.count))), (name, one)
            assert not fits(card, counts((*one, profile.count + 1))), (name, one)
        for kind in range(4):
            assert max(one.engines[kind] for one in card.profiles) == max(one.engines[kind] * one.count for one in card.profiles)
    for model in MODELS:
        for gpu_instance in model["gi_profiles"]:
            for one in gpu_instance["ci_profiles"]:
                size, within = one["slices"], gpu_instance["slices"]
                places = [place["start"] for place in one["placements"]]
                assert list(compute.starts(within, size)) == places == ci_starts(within, size)
                assert one["max_instances"] == max(content.count(size) for content in oracle.contents(within))


# --- drawn -------------------------------------------------------------------------------------------------------------


@st.composite
def states(draw: Any, card: Card) -> list[Instance]:
    """Any layout, with any compute instances in it: at any place, with any ids, or none; and now and then what the card does not list."""
    current = []
    for number, (profile, place) in enumerate(sorted(draw(st.sampled_from(layouts(card))))):
        content = draw(st.sampled_from([(profile.slices,), (), *oracle.contents(profile.slices)]))
        taken: set[int] = set()
        found = []
        for ci, size in zip(draw(st.permutations(range(len(content) + 1))), content, strict=False):
            free = [start for start in ci_starts(profile.slices, size) if not taken & set(range(start, start + size))]
            if free:
                start = draw(st.sampled_from(free))
                taken |= set(range(start, start + size))
                found.append(Compute(ci, 0, size, Placement(start, size)))
        current.append(Instance(number, profile.id, place, tuple(found)))
    free_slots = set(range(8)) - {slot for one in current for slot in oracle.slots(one.placement)}
    if card.slots == 8 and free_slots and draw(st.integers(0, 3)) == 0:
        smallest = next(one for one in card.profiles if one.slices == 1)
        current.append(Instance(77, draw(st.sampled_from([smallest.id, 9999])), Placement(draw(st.sampled_from(sorted(free_slots))), 1),
                                (Compute(0, 0, 1, Placement(0, 1)),)))
    return current


@st.composite
def requests(draw: Any, card: Card) -> Wanted:
    """What some layout is, with any compute instances, counted or one by one, at times with one more or less of something."""
    instances = []
    for profile, place in sorted(draw(st.sampled_from(layouts(card)))):
        order = draw(st.permutations(draw(st.sampled_from([(profile.slices,), *oracle.contents(profile.slices)]))))
        instances.append(WantedInstance(profile.name, draw(st.sampled_from([None, None, place.start])), tuple(order)))
    if instances and draw(st.integers(0, 7)) == 0:
        instances[0] = instances[0]._replace(compute=(2, 2, 1))  # which only the largest can hold
    extra = draw(st.sampled_from([None, None, *card.profiles]))
    if draw(st.booleans()):
        if extra is not None:
            instances.append(WantedInstance(extra.name, None, (extra.slices,)))
        return Wanted(True, instances=tuple(draw(st.permutations(instances))))
    found = Counter((one.profile, size) for one in instances for size in one.compute)
    if extra is not None:
        found[extra.name, draw(st.sampled_from(oracle.contents(extra.slices)))[0]] += draw(st.sampled_from([-1, 1, 2]))
    return Wanted(True, tuple((name, size, count) for (name, size), count in sorted(found.items()) if count > 0))


@pytest.mark.parametrize("name", BOARDS)
@settings(max_examples=80)
@given(data=st.data())
def test_agrees_with_brute_force(name: str, data: st.DataObject) -> None:
    card = BOARDS[name]
    current, wanted = data.draw(states(card), "current"), data.draw(requests(card), "wanted")
    expected = oracle.best(card, current, wanted)
    if expected is None:
        with pytest.raises(NoLayout):
            solve(card, current, wanted)
        return
    cost, room = check(card, current, wanted)
    assert cost == expected[0]
    if not is_settled(card, current, wanted):  # What is right already stays, however little room it leaves.
        assert room == expected[1]


# --- by hand -----------------------------------------------------------------------------------------------------------

SEVEN = [instance(A100, "1g.5gb", start, 1) for start in range(7)]
BALANCED = [instance(A100, "3g.20gb", 4, 3), instance(A100, "2g.10gb", 2, 2), *SEVEN[:2]]
OFF = Wanted(False)


def told(card: Card, current: list[Instance], wanted: Wanted) -> str:
    """A layout in a line: what stays (with what goes and comes inside it), what goes, what is made."""
    layout = solve(card, current, wanted)
    words = []
    for kept in layout.kept:
        inside = [f" -{ci.slices}c" for ci in kept.remove] + [f" +{ci.slices}c@{ci.start}" for ci in kept.add]
        words.append(f"{card.by_id(kept.instance.profile).name}@{kept.instance.placement.start}{''.join(inside)}")
    words += [f"-@{one.placement.start}" for one in layout.gone]
    for new in layout.new:
        words.append(f"+{new.profile.name}@{new.placement.start}:" + ",".join(f"{ci.slices}c@{ci.start}" for ci in new.compute))
    return "; ".join(words)


@pytest.mark.parametrize(("card", "current", "wanted", "expected"), [
    (A100, [], OFF, ""),
    (A100, SEVEN[:2], OFF, "-@0; -@1"),
    (A100, SEVEN[:2], Wanted(True), "-@0; -@1"),
    # the driver's own choice on real boards: GI ids 13 (slot 6) and 9 (slot 2) first, 5 (slot 4) for 2g
    (A100, [], counts(("1g.5gb", 1, 1)), "+1g.5gb@6:1c@0"),
    (A100_LEAF_3, [], counts(("1g.5gb", 1, 1)), "+1g.5gb@2:1c@0"),
    (A100, [], counts(("2g.10gb", 2, 1)), "+2g.10gb@4:2c@0"),
    (A100_LEAF_3, [], counts(("4g.20gb", 4, 1), ("3g.20gb", 3, 1)), "+3g.20gb@0:3c@0; +4g.20gb@4:4c@0"),
    # counts are of compute instances: as few GPU instances as hold them
    (A100, [], counts(("3g.20gb", 1, 3)), "+3g.20gb@4:1c@2,1c@0,1c@1"),
    (A100, [], counts(("3g.20gb", 1, 1), ("3g.20gb", 2, 1)), "+3g.20gb@4:2c@0,1c@2"),
    (A100, [], counts(("3g.20gb", 1, 1), ("3g.20gb", 2, 1), ("3g.20gb", 3, 1)), "+3g.20gb@0:3c@0; +3g.20gb@4:2c@0,1c@2"),
    # what is right stays where it is, wherever a new one would go
    (A100, SEVEN[:1], counts(("1g.5gb", 1, 1)), "1g.5gb@0"),
    (A100, SEVEN, counts(("1g.5gb", 1, 3)), "1g.5gb@4; 1g.5gb@5; 1g.5gb@6; -@0; -@1; -@2; -@3"),
    (A100, SEVEN, counts(("1g.5gb", 1, 2), ("2g.10gb", 2, 1), ("3g.20gb", 3, 1)),
     "1g.5gb@0; 1g.5gb@1; -@2; -@3; -@4; -@5; -@6; +2g.10gb@2:2c@0; +3g.20gb@4:3c@0"),
    (A100, BALANCED, counts(("3g.20gb", 3, 1), ("1g.5gb", 1, 4)),
     "1g.5gb@0; 1g.5gb@1; 3g.20gb@4; -@2; +1g.5gb@2:1c@0; +1g.5gb@3:1c@0"),
    (A100, BALANCED, counts(("3g.20gb", 3, 2)), "3g.20gb@4; -@0; -@1; -@2; +3g.20gb@0:3c@0"),
    # compute instances that match stay, beside new ones in the same GPU instance
    (A100, [instance(A100, "3g.20gb", 0, 1)], counts(("3g.20gb", 1, 3)), "3g.20gb@0 +1c@1 +1c@2"),
    (A100, [instance(A100, "3g.20gb", 0, 3)], counts(("3g.20gb", 1, 3)), "3g.20gb@0 -3c +1c@2 +1c@0 +1c@1"),
    (A100, [instance(A100, "3g.20gb", 0, 1)], counts(("3g.20gb", 1, 1), ("3g.20gb", 2, 1)), "3g.20gb@0; +3g.20gb@4:2c@0"),
    # an orphan is used, or goes
    (A100, [instance(A100, "7g.40gb", 0)], counts(("1g.5gb", 1, 1)), "-@0; +1g.5gb@6:1c@0"),
    (A100, [instance(A100, "3g.20gb", 0)], counts(("3g.20gb", 3, 1)), "3g.20gb@0 +3c@0"),
    (A100, [instance(A100, "3g.20gb", 0), *SEVEN[4:5]], counts(("1g.5gb", 1, 1)), "1g.5gb@4; -@0"),
    # a MIG device weighs more than any number of GPU instances
    (A100, [instance(A100, "3g.20gb", 0, 1, 1, 1), instance(A100, "3g.20gb", 4)], counts(("3g.20gb", 1, 3)), "3g.20gb@0; -@4"),
    # what the card does not list: a slot and a profile
    (A100, [SEVEN[0]._replace(placement=Placement(7, 1))], counts(("1g.5gb", 1, 2)), "1g.5gb@7; +1g.5gb@6:1c@0"),
    (A100, [SEVEN[0]._replace(profile=4711)], counts(("7g.40gb", 7, 1)), "-@0; +7g.40gb@0:7c@0"),
    # one by one: pinned, and with the compute instances in this order, by their ids
    (A100, [], Wanted(True, instances=(WantedInstance("3g.20gb", 0, (1, 2)), WantedInstance("1g.5gb", None, (1,)))),
     "+3g.20gb@0:1c@2,2c@0; +1g.5gb@6:1c@0"),
    (A100, SEVEN[:2], Wanted(True, instances=(WantedInstance("1g.5gb", 5, (1,)),)), "-@0; -@1; +1g.5gb@5:1c@0"),
    (A100, SEVEN[:2], Wanted(True, instances=(WantedInstance("1g.5gb", 1, (1,)), WantedInstance("1g.5gb", None, (1,)))),
     "1g.5gb@0; 1g.5gb@1"),
    (A100, SEVEN[:2], Wanted(True, instances=(WantedInstance("1g.5gb", None, (1,)), WantedInstance("1g.5gb", 0, (1,)))),
     "1g.5gb@0; 1g.5gb@1"),
    # an order in which the driver's own choice of places would leave no room for the last
    (A100, [], Wanted(True, instances=(WantedInstance("7g.40gb", None, (1, 3, 3)),)), "+7g.40gb@0:1c@3,3c@0,3c@4"),
    (A100, [instance(A100, "4g.20gb", 0, 1, 2, 1)], Wanted(True, instances=(WantedInstance("4g.20gb", None, (1, 1, 2)),)),
     "4g.20gb@0 -2c -1c +1c@1 +2c@2"),
])
def test_layouts(card: Card, current: list[Instance], wanted: Wanted, expected: str) -> None:
    assert told(card, current, wanted) == expected


def test_the_drivers_choice_is_assumed_where_nvml_was_not_asked() -> None:
    one = solve(A100, [], counts(("7g.40gb", 2, 1), ("7g.40gb", 1, 2))).new[0]
    made = [Compute(number, 0, new.slices, Placement(new.start, new.slices)) for number, new in enumerate(one.compute)]
    current = [Instance(0, one.profile.id, one.placement, tuple(made))]
    unasked = [current[0]._replace(compute=tuple(ci._replace(placement=None) for ci in made))]
    wanted = counts(("7g.40gb", 2, 2), ("7g.40gb", 1, 3))
    assert told(A100, unasked, wanted) == told(A100, current, wanted) == "7g.40gb@0 +2c@0 +1c@2"


def test_made_the_largest_first_the_drivers_own_choice_will_do() -> None:
    """So counts need no driver that can be told where a compute instance shall lie. Every content, beside everything that may stand."""

    def drivers(slices: int, taken: frozenset[int], sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes:
            return ()
        spans = {(size, start): frozenset(range(start, start + size)) for size in range(1, slices + 1) for start in ci_starts(slices, size)}
        free = {key: span for key, span in spans.items() if not span & taken}
        start = min((sum(1 for other in free.values() if other & span), key[1]) for key, span in free.items() if key[0] == sizes[0])[1]
        return (start, *drivers(slices, taken | spans[sizes[0], start], sizes[1:]))

    tried = 0
    for slices in (1, 2, 3, 4, 7):
        for number in range(1 << slices):
            taken = frozenset(slot for slot in range(slices) if number >> slot & 1)
            for content in oracle.contents(slices):
                sizes = tuple(sorted(content, reverse=True))
                if oracle.lies(slices, taken, sizes):
                    tried += 1
                    assert compute.pack(slices, number, sizes) == drivers(slices, taken, sizes)
    assert tried > 300


@pytest.mark.parametrize(("wanted", "message"), [
    (counts(("1g.5gb", 1, 8)), "8 x 1g.5gb does not fit: there can be 7 x 1g.5gb, not 8; it takes 8 compute slices and the card has 7. "
                               "Nearest that fits: 7 x 1g.5gb."),
    (counts(("4g.20gb", 4, 2)), "2 x 4g.20gb does not fit: there can be 1 x 4g.20gb, not 2; it takes 8 compute slices and the card has 7. "
                                "Nearest that fits: 1 x 4g.20gb, 1 x 3g.20gb."),
    (counts(("3g.20gb", 3, 1), ("2g.10gb", 2, 2), ("1g.5gb", 1, 1)),
     "1 x 3g.20gb, 2 x 2g.10gb, 1 x 1g.5gb does not fit: it takes 8 compute slices and the card has 7; "
     "it takes 9 memory slots and the card has 8. Nearest that fits: 1 x 3g.20gb, 2 x 2g.10gb; or 1 x 3g.20gb, 1 x 2g.10gb, 2 x 1g.5gb; "
     "or 3 x 2g.10gb, 1 x 1g.5gb."),
    (counts(("1g.5gb+me", 1, 2)), "2 x 1g.5gb+me does not fit: there can be 1 x 1g.5gb+me, not 2; "
                                  "it takes 2 JPEG engines and the card has 1; it takes 2 OFA engines and the card has 1. "
                                  "Nearest that fits: 1 x 1g.5gb+me, 1 x 1g.5gb."),
    (counts(("7g.40gb", 1, 99)), "99 x 1c.7g.40gb does not fit: 1 x 7g.40gb have room for 7 compute instances, not 99. "
                                 "Nearest that fits: 7 x 1c.7g.40gb."),
    (counts(("1g.5gb", 1, 10**12)), "1000000000000 x 1g.5gb does not fit: no card holds so many."),
    (counts(("1g.7gb", 1, 1)), "This card has no profile 1g.7gb; it has 1g.5gb, 1g.5gb+me, 1g.10gb, 2g.10gb, 3g.20gb, 4g.20gb, 7g.40gb."),
    (Wanted(True, instances=(WantedInstance("3g.20gb", 2, (3,)),)),
     "1 x 3g.20gb at slot 2 does not fit: a 3g.20gb starts at slot 0 or 4, not at 2. It would fit without `placement`."),
    (Wanted(True, instances=(WantedInstance("3g.20gb", 0, (3,)), WantedInstance("4g.20gb", None, (4,)))),
     "1 x 4g.20gb, 1 x 3g.20gb at slot 0 does not fit: there is no way to place them beside each other, as 4g.20gb starts at slot 0 and "
     "3g.20gb starts at slot 0 or 4. It would fit without `placement`."),
    (Wanted(True, instances=(WantedInstance("3g.20gb", None, (2, 2)),)),
     "1 x 3g.20gb with 2c+2c does not fit: a 3g.20gb has no place for compute instances of 2 + 2 slices. Nothing of it fits."),
])
def test_what_does_not_fit_is_told_with_what_does(wanted: Wanted, message: str) -> None:
    for current in ([], BALANCED):
        with pytest.raises(NoLayout) as caught:
            solve(A100, current, wanted)
        assert str(caught.value) == message


def test_a_long_wish_list_is_answered_too() -> None:
    with pytest.raises(NoLayout, match=r"Nearest that fits: 1 x 4g\.96gb\.$"):
        solve(RTX, [], counts(*((profile.name, profile.slices, 4) for profile in RTX.profiles)))


@pytest.mark.parametrize("name", BOARDS)
def test_what_stands_may_stay_whatever_the_rules_say(name: str) -> None:
    """Rules that are inferred may be wrong: then what the driver has made proves it."""
    card = BOARDS[name]
    strict = Card(tuple(profile._replace(count=0, engines=(9, 9, 9, 9)) for profile in card.profiles))
    current = standing(max(layouts(card), key=len))
    assert solve(strict, current, Wanted(True, tuple((strict.by_id(one.profile).name, 1, 1) for one in current[1:]))).cost[:3] == (1, 1, 0)
    assert not solve(strict, current, Wanted(True, tuple((strict.by_id(one.profile).name, 1, 1) for one in current))).changed


@each_card
def test_is_settled_needs_no_placements(name: str) -> None:
    card = CARDS[name]
    bare = Card(tuple(profile._replace(placements=()) for profile in card.profiles))
    for wanted, (layout, *_) in by_request(card).items():
        current = [one._replace(compute=tuple(ci._replace(placement=None) for ci in one.compute)) for one in standing(layout)]
        assert is_settled(bare, current, wanted)
        assert not solve(bare, current, wanted).changed
        assert is_settled(bare, current[1:], wanted) == (not current)
