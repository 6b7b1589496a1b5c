# SPDX-License-Identifier: Apache-2.0
"""A configuration file of mig-parted, and what it asks of each GPU of this node."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..layout.card import Wanted, WantedInstance
from ..layout.names import Name
from ..layout.names import parse as parse_name
from .document import ConfigError, items, known, meant, parse
from .entries import Address, Entry, address, entry

__all__ = ["Config", "ConfigError", "Gpu", "Selection", "load"]

_BOOLEANS = {"y": "true", "yes": "true", "on": "true", "true": "true", "n": "false", "no": "false", "off": "false", "false": "false"}
_SHOWN = 12


class Gpu(NamedTuple):
    """What a file can say about a GPU."""

    index: int  # type: ignore[assignment]  # hides a method that nobody misses; NVML's, in the order of PCI addresses
    uuid: str
    address: str  # 0000:07:00.0; any width of the domain, any case
    device: str  # 0x20B010DE: PCI device, then vendor
    subsystem: str  # 0x134F10DE, or empty when unknown
    name: str
    capable: bool  # of MIG
    profiles: Tuple[str, ...]  # names of the GPU instance profiles that it offers

    @property
    def words(self) -> str:
        return f"GPU {self.index} ({self.name}, {self.device})"


class Selection(NamedTuple):
    label: str
    wanted: Dict[int, Wanted]  # by Gpu.index; a GPU that the label does not name, or that cannot do MIG, is absent
    warnings: Tuple[str, ...]


class Config:
    """A file whose form is right. What it asks of this node shows when a label is selected."""

    def __init__(self, entries: Mapping[str, Sequence[Entry]]) -> None:
        self._entries = dict(entries)

    @property
    def labels(self) -> Tuple[str, ...]:
        return tuple(self._entries)

    def select(self, label: Optional[str], gpus: Sequence[Gpu]) -> Selection:
        """What the label asks of each GPU; None takes the only label there is. Raises ConfigError."""
        name = self._label(label)
        wanted: Dict[int, Wanted] = {}
        warnings: List[str] = []
        matched = False
        for one in self._entries[name]:
            for gpu in _named(one, gpus):
                matched = True
                if not gpu.capable:
                    if one.enabled and one.devices is not None:
                        raise ConfigError(f"{one.where}: {gpu.words} cannot do MIG.")
                    continue
                new = _wanted(one, gpu, gpus)
                if wanted.get(gpu.index, new) != new:
                    warnings.append(f"{one.where}: this overrides what an earlier entry asks of {gpu.words}.")
                wanted[gpu.index] = new
        if not matched and (gpus or any(one.enabled for one in self._entries[name])):
            raise ConfigError(f"Label {name}: none of its entries matches a GPU of this node. It has "
                              f"{', '.join(gpu.words for gpu in gpus) or 'no NVIDIA GPU'}.")
        if not wanted and any(one.enabled for one in self._entries[name]):
            raise ConfigError(f"Label {name}: no GPU that it names can do MIG. This node has {', '.join(gpu.words for gpu in gpus)}.")
        return Selection(name, wanted, tuple(warnings))

    def _label(self, label: Optional[str]) -> str:
        if not self._entries:
            raise ConfigError("There is no mig-configs in this configuration, so there is nothing to select.")
        if label is None:
            if len(self._entries) > 1:
                raise ConfigError(f"Select one of the {len(self._entries)} labels: {_some(self.labels)}.")
            return self.labels[0]
        if label in self._entries:
            return label
        same = [one for one in self.labels if _BOOLEANS.get(one.lower(), one) == _BOOLEANS.get(label.lower())]
        if len(same) == 1:  # A label that YAML takes for true or false: each of its spellings will do.
            return same[0]
        raise ConfigError(f"There is no label {label}{meant(label, self.labels)}; there is {_some(self.labels)}.")


def load(source: Union[str, Mapping[Any, Any]]) -> Config:
    """From YAML or JSON text, or from data parsed already. Raises ConfigError. The form of the whole file is checked."""
    data = parse(source) if isinstance(source, str) else source
    if data is None:
        return Config({})
    if not isinstance(data, Mapping):
        raise ConfigError("A configuration is a mapping with the keys version and mig-configs; this is something else.")
    given = dict(items(data, "Configuration"))
    if not given:
        return Config({})
    if given.get("version") != "v1":
        raise ConfigError(f"The configuration must say `version: v1`; it says {given.get('version', 'nothing of it')}.")
    for key in given:
        known(key, ("version", "mig-configs"), "Configuration")
    if "mig-configs" not in given:
        return Config({})
    labels = given["mig-configs"]
    if not isinstance(labels, Mapping) or not labels:
        raise ConfigError("mig-configs must be a mapping of at least one label to its entries.")
    found = {}
    for label, entries in items(labels, "mig-configs"):
        if not isinstance(entries, list) or not entries:
            raise ConfigError(f"Label {label}: needs a list of at least one entry.")
        found[label] = [entry(one, f"Label {label}, entry {number}") for number, one in enumerate(entries, 1)]
    return Config(found)


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_SHOWN]) + (f", and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")


def _named(one: Entry, gpus: Sequence[Gpu]) -> List[Gpu]:
    """The GPUs that an entry means. One whose device-filter matches none of this node is for other nodes: then its devices do not count."""
    matching = [gpu for gpu in gpus if not one.filters or any(_matches(wish, gpu) for wish in one.filters)]
    if one.devices is None or not matching:
        return matching
    chosen = []
    for device in one.devices:
        found = [gpu for gpu in gpus if device in (gpu.index, gpu.uuid.upper(), address(gpu.address))]
        if not found:
            raise ConfigError(f"{one.where}: this node has no GPU {_device(device)}. It has "
                              f"{'; '.join( f'{gpu.words}, {gpu.uuid} at {gpu.address}' for gpu in gpus)}.")
        chosen += found
    return [gpu for gpu in matching if gpu in chosen]


def _device(device: Union[int, str, Address]) -> str:
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*device) if isinstance(device, tuple) else str(device)


def _matches(wish: Tuple[int, Optional[int]], gpu: Gpu) -> bool:
    device, subsystem = wish
    return device == int(gpu.device, 16) and (subsystem is None or subsystem == int(gpu.subsystem or "0", 16))


def _wanted(one: Entry, gpu: Gpu, gpus: Sequence[Gpu]) -> Wanted:
    counts = sorted((_offered(name, one, gpu, gpus), name.compute, count) for name, count in one.counts)
    instances = tuple(WantedInstance(_offered(item.name, one, gpu, gpus), item.start, item.compute) for item in one.instances)
    return Wanted(one.enabled, tuple(counts), instances)


def _offered(name: Name, one: Entry, gpu: Gpu, gpus: Sequence[Gpu]) -> str:
    """The name of a profile, if this GPU has it. Raises ConfigError."""
    if name.profile in gpu.profiles:
        return name.profile
    told = f"{one.where}: {gpu.words} has no profile {name.profile}; it has {', '.join(gpu.profiles) or 'none'}."
    alike = [other for other in map(parse_name, gpu.profiles) if other[1:2] + other[3:] == name[1:2] + name[3:]]
    near = min(alike, key=lambda other: abs(other.gigabytes - name.gigabytes), default=name)
    if 0 < abs(near.gigabytes - name.gigabytes) < 4:
        told += f" Drivers differ in these names: perhaps {near.profile} is meant."
    have = sorted({other.device for other in gpus if name.profile in other.profiles} - {gpu.device})
    if have:
        filters = ", ".join(f'"{device}"' for device in have)
        told += f" Other GPUs of this node have it: device-filter: [{filters}] keeps the entry to them."
    raise ConfigError(told)
