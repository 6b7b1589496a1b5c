# SPDX-License-Identifier: Apache-2.0
"""Power limits of NVIDIA's GPUs: read what each card has and allows, plan what to set, set it.

nvidia-smi is asked, because it comes with every driver. A limit that is set lasts until the driver is unloaded, which happens without
persistence mode as soon as no program uses the card. Source: nvidia-smi's manual page, --power-limit, --persistence-mode and
--help-query-gpu.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError
from ..host.run import Run

FIELDS = ("uuid", "pci.bus_id", "name", "power.limit", "power.min_limit", "power.max_limit", "power.default_limit", "persistence_mode")
QUERY = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
TOLERANCE = 0.5  # watts; drivers round


class Card(NamedTuple):
    """One GPU; watts, None where the driver answers N/A."""

    uuid: str
    address: str
    name: str
    limit: Optional[float]
    minimum: Optional[float]
    maximum: Optional[float]
    default: Optional[float]
    persistent: bool


class Step(NamedTuple):
    """A limit for a card, or with None persistence mode."""

    card: Card
    watts: Optional[float]

    @property
    def argv(self) -> Tuple[str, ...]:
        what = "--persistence-mode=1" if self.watts is None else f"--power-limit={self.watts:g}"
        return ("/usr/bin/nvidia-smi", f"--id={self.card.uuid}", what)

    def describe(self) -> str:
        if self.watts is None:
            return f"{self.card.name} ({self.card.address}): persistence mode"
        return f"{self.card.name} ({self.card.address}): {self.watts:g} W instead of {self.card.limit:g} W"


def _watts(text: str) -> Optional[float]:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def parse(text: str) -> List[Card]:
    """The cards in nvidia-smi's answer to QUERY."""
    cards = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != len(FIELDS):
            continue
        limit, minimum, maximum, default = map(_watts, parts[3:7])
        address = re.sub(r"^0000(?=[0-9A-F]{4}:)", "", parts[1], flags=re.I).lower()
        cards.append(Card(parts[0], address, parts[2], limit, minimum, maximum, default, parts[7] == "Enabled"))
    return cards


def gather(run: Run) -> List[Card]:
    """The cards; none where no driver answers, as before the reboot that loads one."""
    result = run(QUERY)
    return parse(result.out) if result.rc == 0 else []


def wanted(cards: List[Card], limits: Dict[str, float]) -> List[Tuple[Card, float]]:
    """The limit of each card that has one, by its UUID, its PCI address, or `all`. Raises ForjaError before anything is set."""
    known = {name for card in cards for name in (card.uuid, card.address)}
    strangers = sorted(set(limits) - known - {"all"})
    if strangers:
        there = ", ".join(f"{card.address} ({card.uuid}, {card.name})" for card in cards)
        raise ForjaError(f"{', '.join(strangers)} is no card of this host; it has {there}. Cards are named by UUID or PCI address.")
    found = []
    for card in cards:
        watts = limits.get(card.uuid, limits.get(card.address, limits.get("all")))
        if watts is None:
            continue
        if card.limit is None or card.minimum is None or card.maximum is None:
            raise ForjaError(f"{card.name} ({card.address}) lets nobody set its power limit: leave it out.")
        if not card.minimum <= watts <= card.maximum:
            raise ForjaError(f"{watts:g} W is asked for {card.name} ({card.address}), which takes {card.minimum:g} to {card.maximum:g} W.")
        found.append((card, float(watts)))
    return found


def plan(cards: List[Card], limits: Dict[str, float]) -> List[Step]:
    steps = []
    for card, watts in wanted(cards, limits):
        if not card.persistent:
            steps.append(Step(card, None))
        if abs((card.limit or 0) - watts) > TOLERANCE:
            steps.append(Step(card, watts))
    return steps


def defaults(cards: List[Card]) -> Dict[str, float]:
    """The limits that the cards come with."""
    return {card.uuid: card.default for card in cards if card.default is not None and card.limit is not None and card.minimum is not None}


def apply(run: Run, steps: List[Step]) -> None:
    for step in steps:
        result = run(list(step.argv))
        if result.rc != 0:
            raise ForjaError(f"{' '.join(step.argv)} failed: {(result.err or result.out).strip()}")
