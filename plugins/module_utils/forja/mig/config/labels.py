# SPDX-License-Identifier: Apache-2.0
"""Compute the labels that need no file from the cards of this node: all-disabled, all-enabled, all-balanced and all-<profile>.

They are those of mig-parted's own file: in all-<profile> a + is written as a dot (all-1g.5gb.me), each GPU gets as many as it
holds; all-balanced is two of the smallest, one of two slices and, where the card has seven slices, one of three.
"""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ..layout.card import Card, Profile, Wanted
from ..layout.solver import fits
from .document import suggestion
from .selection import ConfigError, Gpu, Selection

Counts = Tuple[Tuple[str, int, int], ...]


def labels(cards: Mapping[int, Card]) -> Tuple[str, ...]:
    """List what `select` takes; `cards` are those of the MIG-capable GPUs."""
    names: List[str] = []
    for card in cards.values():
        names += [_label(profile) for profile in card.profiles if _label(profile) not in names]
    balanced = ["all-balanced"] if cards and all(_balanced(card) for card in cards.values()) else []
    return tuple(["all-disabled", "all-enabled"] + balanced + names)


def select(label: str, gpus: Sequence[Gpu], cards: Mapping[int, Card]) -> Selection:
    """Return what the label wants of each GPU; those that cannot do MIG are left out. Raises ConfigError.

    `cards` by Gpu.index. Where their profiles have no placements, NVML's own numbers of instances count.
    """
    known = labels(cards)
    capable = [gpu for gpu in gpus if gpu.capable]
    if label != "all-disabled" and not capable:
        raise ConfigError(f"Label {label}: no GPU of this node can do MIG. It has "
                          f"{', '.join(gpu.description for gpu in gpus) or 'no NVIDIA GPU'}.{_display_mode(gpus)}")
    if label not in known and label not in ("all-balanced", "all-disabled"):
        raise ConfigError(f"There is no label {label}{suggestion(label, known)}; without a configuration there is {', '.join(known)}.")
    wanted: Dict[int, Wanted] = {}
    for gpu in capable:
        counts = _counts(label, cards[gpu.index])
        if counts is None:
            raise ConfigError(f"Label {label} does not exist for {gpu.description}, which has "
                              f"{', '.join(labels({gpu.index: cards[gpu.index]}))}. Where GPUs differ, write a configuration with "
                              "device-filter.")
        wanted[gpu.index] = Wanted(label != "all-disabled", counts)
    return Selection(label, wanted, ())


def _display_mode(gpus: Sequence[Gpu]) -> str:
    """Explain the one case in which a card that can do MIG says that it cannot; NVIDIA's guide of MIG for RTX PRO names the tool."""
    cards = [gpu for gpu in gpus if "RTX PRO" in gpu.name]
    return " A card of the RTX PRO family can do MIG only in compute mode: see NVIDIA's displaymodeselector." if cards else ""


def _label(profile: Profile) -> str:
    return "all-" + profile.name.replace("+", ".")


def _counts(label: str, card: Card) -> Optional[Counts]:
    """Return the counts of a label; None when the card has no such profile."""
    if label in ("all-disabled", "all-enabled"):
        return ()
    if label == "all-balanced":
        return _balanced(card)
    for profile in card.profiles:
        if _label(profile) == label:
            return ((profile.name, profile.slices, _most(card, profile)),)
    return None


def _most(card: Card, profile: Profile) -> int:
    """Count how many fit: NVML is known to be wrong about it on the A30 (mig-parted pkg/mig/discovery)."""
    number = len(profile.placements) or profile.count
    while profile.placements and number > 1 and not fits(card, Wanted(True, ((profile.name, profile.slices, number),))):
        number -= 1
    return number


def _balanced(card: Card) -> Optional[Counts]:
    plain = [profile for profile in card.profiles if "+" not in profile.name and "-" not in profile.name]
    plain.sort(key=lambda profile: (profile.slices, profile.memory_mib))
    of = {slices: next((profile for profile in plain if profile.slices == slices), None) for slices in (1, 2, 3)}
    asked = [(of[1], 2), (of[2], 1)] + ([(of[3], 1)] if card.slices >= 7 else [])
    counts = tuple(sorted((profile.name, profile.slices, count) for profile, count in asked if profile is not None))
    sure = all(profile.placements for profile in plain)
    return counts if len(counts) == len(asked) and (not sure or fits(card, Wanted(True, counts))) else None
