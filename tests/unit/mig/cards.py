# SPDX-License-Identifier: Apache-2.0
"""The cards of tests/lab/nvml/profiles.json as the planner sees them, and the boards whose slot 3 has no compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plugins.module_utils.forja.mig.layout.card import Card, Compute, Instance, Placement, Profile
from plugins.module_utils.forja.mig.layout.decision import Layout

MODELS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "lab/nvml/profiles.json").read_text())["models"]
# By size in slots and slices: where a profile may start when slot 3, not slot 7, is the one without compute.
LEAF_3 = {(1, 1): (0, 1, 2, 4, 5, 6, 7), (2, 1): (0, 2, 4, 6), (2, 2): (0, 4, 6), (4, 3): (0, 4), (4, 4): (4,), (8, 7): (0,)}


def card(model: dict[str, Any], leaf_3: bool = False) -> Card:
    """Engines that no source tells (B200 and GB200, 3g and larger) are taken from the H100, which is built alike."""
    profiles = []
    for one in model["gi_profiles"]:
        places = [Placement(place["start"], place["size"]) for place in one["placements"]]
        if leaf_3:
            places = [Placement(start, places[0].size) for start in LEAF_3[places[0].size, one["slices"]]]
        alike = (one["slices"], 0, one["slices"], int(one["slices"] == 7))
        engines = [alike[number] if one[kind] is None else one[kind] for number, kind in enumerate(("decoders", "encoders", "jpeg", "ofa"))]
        profiles.append(Profile(one["nvml_profile"], one["id"], one["name"], one["slices"], one["max_instances"], one["memory_mb"] or 0,
                                one["sm"] or 0, (engines[0], engines[1], engines[2], engines[3]), tuple(places)))
    return Card(tuple(profiles))


CARDS = {model["key"]: card(model) for model in MODELS}
CARDS.update({f"{model['key']}, slot 3 without compute": card(model, leaf_3=True) for model in MODELS if model["tree_leaves"] == 8})
A100, A100_LEAF_3 = CARDS["a100-40gb"], CARDS["a100-40gb, slot 3 without compute"]
A30, H100, RTX = CARDS["a30-24gb"], CARDS["h100-80gb-sxm"], CARDS["rtx-pro-6000-blackwell-96gb"]


def named(card: Card, name: str) -> Profile:
    return next(profile for profile in card.profiles if profile.name == name)


def instance(card: Card, name: str, start: int, *compute: int, places: bool = True) -> Instance:
    """A GPU instance with compute instances of these sizes, made in this order as the driver would place them one after the other."""
    profile = named(card, name)
    size = profile.placements[0].size
    found: list[Compute] = []
    for number, slices in enumerate(compute):
        taken = {slot for one in found if one.placement for slot in range(one.placement.start, one.placement.start + one.slices)}
        free = [begin for begin in ci_starts(profile.slices, slices) if not taken & set(range(begin, begin + slices))]
        found.append(Compute(number, 0, slices, Placement(free[0], slices)))
    if not places:
        found = [one._replace(placement=None) for one in found]
    return Instance(100 * profile.id + start, profile.id, Placement(start, size), tuple(found))


def ci_starts(slices: int, size: int) -> list[int]:
    """As the listings have it, written down anew: not the planner's own rule."""
    rule = {(1, 1): [0], (2, 1): [0, 1], (2, 2): [0], (3, 1): [0, 1, 2], (3, 2): [0], (3, 3): [0], (4, 1): [0, 1, 2, 3], (4, 2): [0, 2],
            (4, 4): [0], (7, 1): [0, 1, 2, 3, 4, 5, 6], (7, 2): [0, 2, 4], (7, 3): [0, 4], (7, 4): [0], (7, 7): [0]}
    return rule.get((slices, size), [])


def applied(card: Card, current: list[Instance], layout: Layout) -> list[Instance]:
    """What a GPU holds after a layout has been applied. Fails where a real one would refuse."""
    after = []
    assert sorted(one.instance for one in layout.kept) + sorted(layout.gone) == sorted(current, key=lambda one: (one in layout.gone, one))
    for kept in layout.kept:
        assert set(kept.remove) <= set(kept.instance.compute)
        compute = [one for one in kept.instance.compute if one not in kept.remove]
        after.append(kept.instance._replace(compute=_filled(card, kept.instance.profile, compute, kept.add)))
    for number, new in enumerate(layout.new):
        assert new.placement in new.profile.placements
        after.append(Instance(900 + number, new.profile.id, new.placement, _filled(card, new.profile.id, [], new.compute)))
    taken = [slot for one in after for slot in range(one.placement.start, one.placement.start + one.placement.size)]
    assert len(taken) == len(set(taken))
    return after


def _filled(card: Card, profile: int, compute: list[Compute], add: Any) -> tuple[Compute, ...]:
    compute = list(compute)
    for one in add:
        assert one.start in ci_starts(card.by_id(profile).slices, one.slices)
        number = min(set(range(len(compute) + 1)) - {other.id for other in compute})
        compute.append(Compute(number, 0, one.slices, Placement(one.start, one.slices)))
    slices = [number for one in compute if one.placement for number in range(one.placement.start, one.placement.start + one.slices)]
    assert len(slices) == len(set(slices))
    return tuple(sorted(compute))
