# SPDX-License-Identifier: Apache-2.0
"""The memory slots of a GPU from top to bottom, in plain text, such that a diff of two of them reads like a picture:

      0 +- 1g.5gb
      1 .
      2 +- 2g.10gb
      3 |
      4 +- 3g.20gb: 2c + 1c
      5 |
      6 |
      7 |

Behind the name of a GPU instance stand its compute instances in the order of their ids, unless one fills it.
"""

from math import gcd
from typing import List, NamedTuple, Sequence, Tuple

from .card import Card, Instance, Placement
from .decision import Layout
from .names import ci_name


class Shown(NamedTuple):
    """A GPU instance in the picture."""

    name: str
    placement: Placement
    compute: Tuple[int, ...]  # slices, by id


def before(current: Sequence[Instance], card: Card) -> List[Shown]:
    """What a GPU holds."""
    names = {profile.id: profile.name for profile in card.profiles}
    return [Shown(names.get(one.profile, f"unknown profile {one.profile}"), one.placement,
                  tuple(compute.slices for compute in sorted(one.compute))) for one in current]


def after(layout: Layout, card: Card) -> List[Shown]:
    """What a GPU will hold."""
    stays = [shown._replace(compute=kept.compute) for kept in layout.kept for shown in before([kept.instance], card)]
    return stays + [Shown(one.profile.name, one.placement, tuple(compute.slices for compute in one.compute)) for one in layout.new]


def draw(card: Card, instances: Sequence[Shown]) -> List[str]:
    """One line for each slot, or for as many as always go together."""
    places = [place for profile in card.profiles for place in profile.placements] + [one.placement for one in instances]
    unit = 0
    for place in places:
        unit = gcd(gcd(unit, place.start), place.size)
    rows = dict.fromkeys(range(0, max([place.start + place.size for place in places] or [0]), unit or 1), ".")
    for one in instances:
        rows.update(dict.fromkeys(range(one.placement.start, one.placement.start + one.placement.size, unit), "|"))
        rows[one.placement.start] = "+- " + _words(one)
    labels = [f"{start}-{start + unit - 1}" if unit > 1 else f"{start}" for start in sorted(rows)]
    width = max([len(label) for label in labels] or [0])
    return [f"  {label.rjust(width)} {rows[start]}" for label, start in zip(labels, sorted(rows))]


def _words(one: Shown) -> str:
    if not one.compute:
        return one.name + ": no compute instance"
    if len(one.compute) == 1 and ci_name(one.name, one.compute[0]) == one.name:
        return one.name
    return f"{one.name}: {' + '.join(f'{size}c' for size in one.compute)}"
