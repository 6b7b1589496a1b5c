# SPDX-License-Identifier: Apache-2.0
"""Draw the memory slots of a GPU from top to bottom, in plain text, so that a diff of two drawings reads like a picture:

      0 +- 1g.5gb
      1 .
      2 +- 2g.10gb
      3 |
      4 +- 3g.20gb: 2c + 1c
      5 |
      6 |
      7 |

The name of a GPU instance is followed by its compute instances in the order of their ids, unless one fills it.
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
    """List what a GPU holds."""
    names = {profile.id: profile.name for profile in card.profiles}
    return [Shown(names.get(instance.profile, f"unknown profile {instance.profile}"), instance.placement,
                  tuple(compute.slices for compute in sorted(instance.compute))) for instance in current]


def after(layout: Layout, card: Card) -> List[Shown]:
    """List what a GPU will hold."""
    kept_ones = [shown._replace(compute=kept.compute) for kept in layout.kept for shown in before([kept.instance], card)]
    return kept_ones + [Shown(new.profile.name, new.placement, tuple(compute.slices for compute in new.compute)) for new in layout.new]


def draw(card: Card, instances: Sequence[Shown]) -> List[str]:
    """Draw one line for each slot, or for as many as always go together."""
    places = [place for profile in card.profiles for place in profile.placements] + [shown.placement for shown in instances]
    unit = 0
    for place in places:
        unit = gcd(gcd(unit, place.start), place.size)
    rows = dict.fromkeys(range(0, max([place.start + place.size for place in places] or [0]), unit or 1), ".")
    for shown in instances:
        rows.update(dict.fromkeys(range(shown.placement.start, shown.placement.start + shown.placement.size, unit), "|"))
        rows[shown.placement.start] = "+- " + _describe(shown)
    labels = [f"{start}-{start + unit - 1}" if unit > 1 else f"{start}" for start in sorted(rows)]
    width = max([len(label) for label in labels] or [0])
    return [f"  {label.rjust(width)} {rows[start]}" for label, start in zip(labels, sorted(rows))]


def _describe(shown: Shown) -> str:
    if not shown.compute:
        return shown.name + ": no compute instance"
    if len(shown.compute) == 1 and ci_name(shown.name, shown.compute[0]) == shown.name:
        return shown.name
    return f"{shown.name}: {' + '.join(f'{size}c' for size in shown.compute)}"
