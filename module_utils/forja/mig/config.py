# SPDX-License-Identifier: Apache-2.0
"""A configuration file of mig-parted, and what it asks of each GPU of this node."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from .card import Wanted


class ConfigError(Exception):
    """The message names the label and the entry, what is wrong and what to do."""


class Gpu(NamedTuple):
    """What a file can say about a GPU."""

    index: int  # type: ignore[assignment]  # hides a method that nobody misses; NVML's, in the order of PCI addresses
    uuid: str
    address: str  # 0000:07:00.0; any width of the domain, any case
    device: str  # 0x20B010DE: PCI device, then vendor
    subsystem: str  # 0x134F10DE
    name: str
    capable: bool  # of MIG
    profiles: Tuple[str, ...]  # names of the GPU instance profiles that it offers


class Selection(NamedTuple):
    label: str
    wanted: Dict[int, Wanted]  # by Gpu.index; a GPU that the label does not name is absent
    warnings: Tuple[str, ...]


class Config:
    """A file whose form is right. What it asks of this node shows when a label is selected."""

    @property
    def labels(self) -> Tuple[str, ...]:
        raise NotImplementedError

    def select(self, label: Optional[str], gpus: Sequence[Gpu]) -> Selection:
        """What the label asks of each GPU; None takes the only label there is. Raises ConfigError."""
        raise NotImplementedError


def load(source: Union[str, Mapping[Any, Any]]) -> Config:
    """From YAML or JSON text, or from data parsed already. Raises ConfigError."""
    raise NotImplementedError
