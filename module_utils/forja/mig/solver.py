# SPDX-License-Identifier: Apache-2.0
"""From what a GPU holds to what it shall hold, touching as little as can be. Pure and exact."""

from typing import Sequence

from .card import Card, Instance, Wanted
from .layout import Layout


def settled(card: Card, current: Sequence[Instance], wanted: Wanted) -> bool:
    """Whether nothing is to be done. Needs no placements, neither of profiles nor of compute instances."""
    raise NotImplementedError


def solve(card: Card, current: Sequence[Instance], wanted: Wanted) -> Layout:
    """The cheapest layout that is what was asked. Raises NoLayout; the card's profiles need their placements unless nothing is to be done."""
    raise NotImplementedError


def fits(card: Card, wanted: Wanted) -> bool:
    """Whether an empty card can hold it."""
    raise NotImplementedError
