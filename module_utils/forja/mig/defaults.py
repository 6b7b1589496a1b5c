# SPDX-License-Identifier: Apache-2.0
"""The labels that need no file: all-disabled, all-enabled, all-balanced and all-<profile>, computed from the cards of this node."""

from typing import Mapping, Sequence, Tuple

from .card import Card
from .config import Gpu, Selection


def labels(cards: Mapping[int, Card]) -> Tuple[str, ...]:
    """Of these cards, which are the MIG-capable ones by Gpu.index."""
    raise NotImplementedError


def select(label: str, gpus: Sequence[Gpu], cards: Mapping[int, Card]) -> Selection:
    """What the label asks of each GPU. Raises ConfigError."""
    raise NotImplementedError
