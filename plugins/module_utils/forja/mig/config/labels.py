# SPDX-License-Identifier: Apache-2.0
"""The labels that need no file: all-disabled, all-enabled, all-balanced and all-<profile>, computed from the cards of this node.

They are those of mig-parted's own file: in all-<profile> a + is written as a dot (all-1g.5gb.me), each GPU gets as many as it
holds; all-balanced is two of the smallest, one of two slices and, where the card has seven slices, one of three.
"""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ..layout.card import Card, Profile, Wanted
from ..layout.solver import fits
from .document import meant
from .selection import ConfigError, Gpu, Selection

Counts = Tuple[Tuple[str, int, int], ...]


def labels(cards: Mapping[int, Card]) -> Tuple[str, ...]:
    """What `select` takes, `cards` being those of the MIG-capable GPUs."""
    names: List[str] = []
    for card in cards.values():
        names += [_label(profile) for profile in card.profiles if _label(profile) not in names]
    balanced = ["all-balanced"] if cards and all(_balanced(card) for card in cards.values()) else []
    return tuple(["all-disabled", "all-enabled"] + balanced + names)


def select(label: str, gpus: Sequence[Gpu], cards: Mapping[int, Card]) -> Selection:
    """What the label asks of each GPU; those that cannot do MIG are passed over. Raises ConfigError.

    `cards` by Gpu.index. Where their profiles have no placements, NVML's own numbers of instances are taken for true.
    """
    known = labels(cards)
    if label not in known and label not in ("all-balanced", "all-disabled"):
        raise ConfigError(f"There is no label {label}{meant(label, known)}; without a configuration there is {', '.join(known)}.")
    capable = [gpu for gpu in gpus if gpu.capable]
    if label != "all-disabled" and not capable:
        raise ConfigError(f"Label {label}: no GPU of this node can do MIG. It has "
                          f"{', '.join(gpu.words for gpu in gpus) or 'no NVIDIA GPU'}.")
    wanted: Dict[int, Wanted] = {}
    for gpu in capable:
        counts = _counts(label, cards[gpu.index])
        if counts is None:
            raise ConfigError(f"Label {label} means nothing to {gpu.words}, which has "
                              f"{', '.join(labels({gpu.index: cards[gpu.index]}))}. Where GPUs differ, write a configuration with "
                              "device-filter.")
        wanted[gpu.index] = Wanted(label != "all-disabled", counts)
    return Selection(label, wanted, ())


def _label(profile: Profile) -> str:
    return "all-" + profile.name.replace("+", ".")


def _counts(label: str, card: Card) -> Optional[Counts]:
    """None when the card has no such thing."""
    if label in ("all-disabled", "all-enabled"):
        return ()
    if label == "all-balanced":
        return _balanced(card)
    for profile in card.profiles:
        if _label(profile) == label:
            return ((profile.name, profile.slices, _most(card, profile)),)
    return None


def _most(card: Card, profile: Profile) -> int:
    """As many as fit: NVML is known to be wrong about their number on the A30 (mig-parted pkg/mig/discovery)."""
    number = len(profile.placements) or profile.count
    while profile.placements and number > 1 and not fits(card, Wanted(True, ((profile.name, profile.slices, number),))):
        number -= 1
    return number


def _balanced(card: Card) -> Optional[Counts]:
    plain = [one for one in card.profiles if "+" not in one.name and "-" not in one.name]
    plain.sort(key=lambda one: (one.slices, one.memory_mib))
    of = {slices: next((one for one in plain if one.slices == slices), None) for slices in (1, 2, 3)}
    asked = [(of[1], 2), (of[2], 1)] + ([(of[3], 1)] if card.slices >= 7 else [])
    counts = tuple(sorted((one.name, one.slices, count) for one, count in asked if one is not None))
    sure = all(one.placements for one in plain)
    return counts if len(counts) == len(asked) and (not sure or fits(card, Wanted(True, counts))) else None
