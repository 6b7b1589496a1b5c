"""Power limits: what nvidia-smi says, what is planned and refused."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.power.limits import QUERY, apply, defaults, gather, parse, plan

TEXT = """GPU-a, 00000000:0A:00.0, NVIDIA GeForce RTX 3090, 350.00, 100.00, 366.00, 350.00, Disabled
GPU-b, 00000000:41:00.0, NVIDIA RTX A2000, 70.00, 70.00, 70.00, 70.00, Enabled
GPU-c, 00000000:42:00.0, NVIDIA GeForce MX150, [N/A], [N/A], [N/A], [N/A], Enabled
"""
CARDS = parse(TEXT)


def test_cards_as_they_are_told() -> None:
    assert [card.address for card in CARDS] == ["0000:0a:00.0", "0000:41:00.0", "0000:42:00.0"]
    assert (CARDS[0].limit, CARDS[0].minimum, CARDS[0].maximum, CARDS[0].persistent) == (350, 100, 366, False)
    assert CARDS[2].limit is None
    assert parse("No devices were found\n") == []


@pytest.mark.parametrize(("limits", "steps"), [
    ({}, []),
    ({"0000:0a:00.0": 250}, ["persistence mode", "250 W instead of 350 W"]),
    ({"GPU-a": 350.2}, ["persistence mode"]),
    ({"GPU-b": 70}, []),
    ({"GPU-a": 200, "0000:0a:00.0": 250}, ["persistence mode", "200 W instead of 350 W"]),
])
def test_steps(limits: dict[str, float], steps: list[str]) -> None:
    assert [step.describe().partition(": ")[2] for step in plan(CARDS, limits)] == steps


@pytest.mark.parametrize(("limits", "message"), [
    ({"GPU-a": 400}, "400 W is asked for NVIDIA GeForce RTX 3090 .*, which takes 100 to 366 W"),
    ({"all": 80}, "80 W is asked for .*, which takes"),
    ({"GPU-c": 20}, "MX150 .* lets nobody set its power limit"),
    ({"0": 200}, "0 is no card of this host; it has 0000:0a:00.0"),
])
def test_what_a_card_does_not_allow_is_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ForjaError, match=message):
        plan(CARDS, limits)


def test_all_is_for_those_without_one_of_their_own() -> None:
    one = parse(TEXT.splitlines()[0])
    assert [step.watts for step in plan(one, {"all": 300, "GPU-a": 250})] == [None, 250]
    assert [step.watts for step in plan(one, {"all": 300})] == [None, 300]


def test_away_again() -> None:
    low = [CARDS[0]._replace(limit=200, persistent=True), *CARDS[1:]]
    assert [step.watts for step in plan(low, defaults(low))] == [350]


def test_no_driver_is_no_card_and_a_failure_names_the_command() -> None:
    asked: list[Any] = []

    def run(argv: list[str]) -> Result:
        asked.append(argv)
        return Result(9, "", "not permitted")

    assert gather(run) == []
    assert asked == [QUERY]
    with pytest.raises(ForjaError, match="--id=GPU-a --power-limit=250 failed: not permitted"):
        apply(run, [step for step in plan(CARDS, {"GPU-a": 250}) if step.watts])
