# SPDX-License-Identifier: Apache-2.0
"""The slots of a GPU as text."""

from __future__ import annotations

import difflib

from plugins.module_utils.forja.mig.layout.card import Card, Placement, Wanted
from plugins.module_utils.forja.mig.layout.picture import after, before, draw
from plugins.module_utils.forja.mig.layout.solver import solve
from tests.unit.mig.cards import A100, CARDS, RTX, applied, instance

MIXED = [instance(A100, "1g.5gb", 0, 1), instance(A100, "2g.10gb", 2), instance(A100, "3g.20gb", 4, 1, 1)]


def test_each_slot_has_a_line() -> None:
    assert draw(A100, before(MIXED, A100)) == [
        "  0 +- 1g.5gb",
        "  1 .",
        "  2 +- 2g.10gb: no compute instance",
        "  3 |",
        "  4 +- 3g.20gb: 1c + 1c",
        "  5 |",
        "  6 |",
        "  7 |",
    ]


def test_slots_that_always_go_together_share_a_line() -> None:
    current = [instance(RTX, "2g.48gb", 6, 2), instance(RTX, "1g.24gb+me", 0, 1)]
    assert draw(RTX, before(current, RTX)) == ["   0-2 +- 1g.24gb+me", "   3-5 .", "   6-8 +- 2g.48gb", "  9-11 |"]


def test_what_the_card_does_not_list_is_drawn_too() -> None:
    odd = instance(A100, "1g.5gb", 0, 1)._replace(profile=4711, placement=Placement(7, 1))
    assert draw(A100, before([odd], A100))[7] == "  7 +- unknown profile 4711: 1c"
    bare = Card(tuple(profile._replace(placements=()) for profile in A100.profiles))
    assert draw(bare, before(MIXED, bare)) == draw(A100, before(MIXED, A100))[:8]
    assert draw(bare, []) == []


def test_what_will_be_is_what_then_is() -> None:
    wanted = Wanted(True, (("1g.5gb", 1, 2), ("2g.10gb", 2, 1), ("3g.20gb", 1, 1), ("3g.20gb", 2, 1)))
    layout = solve(A100, MIXED, wanted)
    drawn = draw(A100, after(layout, A100))
    assert drawn == draw(A100, before(applied(A100, MIXED, layout), A100))
    diff = difflib.unified_diff(draw(A100, before(MIXED, A100)), drawn, lineterm="", n=9)
    assert list(diff)[3:] == [
        "   0 +- 1g.5gb",
        "-  1 .",
        "-  2 +- 2g.10gb: no compute instance",
        "+  1 +- 1g.5gb",
        "+  2 +- 2g.10gb",
        "   3 |",
        "-  4 +- 3g.20gb: 1c + 1c",
        "+  4 +- 3g.20gb: 2c + 1c",
        "   5 |",
        "   6 |",
        "   7 |",
    ]


def test_every_card_can_be_drawn_in_ascii() -> None:
    for card in CARDS.values():
        for profile in card.profiles:
            for place in profile.placements:
                lines = draw(card, before([instance(card, profile.name, place.start, profile.slices)], card))
                assert "".join(lines).isascii()
                assert [line for line in lines if line.endswith(f"+- {profile.name}")]
                assert len(lines) == len(draw(card, []))
