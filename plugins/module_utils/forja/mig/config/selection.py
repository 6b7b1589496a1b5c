# SPDX-License-Identifier: Apache-2.0
"""Load a configuration file of mig-parted, and select what it wants of each GPU of this node."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..layout.card import Wanted, WantedInstance
from ..layout.names import Name
from ..layout.names import parse as parse_name
from .document import ConfigError, items, known, parse, shortened, suggestion
from .entries import Address, Entry, address, entry

__all__ = ["Config", "ConfigError", "Gpu", "Selection", "load"]

_BOOLEANS = {"y": "true", "yes": "true", "on": "true", "true": "true", "n": "false", "no": "false", "off": "false", "false": "false"}
_SHOWN = 12


class Gpu(NamedTuple):
    """What a file can name a GPU by, and what it offers."""

    index: int  # type: ignore[assignment]  # hides tuple.index; NVML's, in the order of PCI addresses
    uuid: str
    address: str  # 0000:07:00.0; any width of the domain, any case
    device: str  # 0x20B010DE: PCI device, then vendor
    subsystem: str  # 0x134F10DE, or empty when unknown
    name: str
    capable: bool  # of MIG
    profiles: Tuple[str, ...]  # names of the GPU instance profiles that it offers
    obstacle: str = ""  # why it cannot be planned although it can do MIG

    @property
    def description(self) -> str:
        return f"GPU {self.index} ({self.name}, {self.device})"


class Selection(NamedTuple):
    label: str
    wanted: Dict[int, Wanted]  # by Gpu.index; a GPU that the label does not name, or that cannot do MIG, is absent
    warnings: Tuple[str, ...]


class Config:
    """A file whose form is valid. What it wants of this node shows when a label is selected."""

    def __init__(self, entries: Mapping[str, Sequence[Entry]]) -> None:
        self._entries = dict(entries)

    @property
    def labels(self) -> Tuple[str, ...]:
        return tuple(self._entries)

    def select(self, label: Optional[str], gpus: Sequence[Gpu]) -> Selection:
        """Return what the label wants of each GPU; None takes the only label there is. Raises ConfigError."""
        name = self._label(label)
        wanted: Dict[int, Wanted] = {}
        warnings: List[str] = []
        matched = False
        for rule in self._entries[name]:
            for gpu in _named(rule, gpus):
                matched = True
                if not gpu.capable:
                    if rule.enabled and rule.devices is not None:
                        raise ConfigError(f"{rule.where}: {gpu.description} cannot do MIG{': ' + gpu.obstacle if gpu.obstacle else ''}.")
                    continue
                new = _wanted(rule, gpu, gpus)
                if wanted.get(gpu.index, new) != new:
                    warnings.append(f"{rule.where}: this overrides what an earlier entry asks of {gpu.description}.")
                wanted[gpu.index] = new
        if not matched and (gpus or any(rule.enabled for rule in self._entries[name])):
            raise ConfigError(f"Label {name}: none of its entries matches a GPU of this node. It has "
                              f"{', '.join(gpu.description for gpu in gpus) or 'no NVIDIA GPU'}.")
        if not wanted and any(rule.enabled for rule in self._entries[name]):
            raise ConfigError(f"Label {name}: no GPU that it names can do MIG. This node has {', '.join(gpu.description for gpu in gpus)}.")
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
        same = [other for other in self.labels if _BOOLEANS.get(other.lower(), other) == _BOOLEANS.get(label.lower())]
        if len(same) == 1:  # A label that YAML takes for true or false: each of its spellings will do.
            return same[0]
        raise ConfigError(f"There is no label {label}{suggestion(label, self.labels)}; there is {_some(self.labels)}.")


def load(source: Union[str, Mapping[Any, Any]]) -> Config:
    """Load YAML or JSON text, or parsed data, and check the form of all of it. Raises ConfigError."""
    data = parse(source) if isinstance(source, str) else source
    if data is None:
        return Config({})
    if not isinstance(data, Mapping):
        raise ConfigError("A configuration is a mapping with the keys version and mig-configs, not a list or a plain value.")
    given = dict(items(data, "Configuration"))
    if not given:
        return Config({})
    if given.get("version") != "v1":
        found = f"found {shortened(given['version'])}" if "version" in given else "found no version"
        raise ConfigError(f"Missing `version: v1` in the configuration: {found}.")
    for key in given:
        known(key, ("version", "mig-configs"), "Configuration")
    if "mig-configs" not in given:
        return Config({})
    labels = given["mig-configs"]
    if not isinstance(labels, Mapping) or not labels:
        raise ConfigError("mig-configs must be a mapping of at least one label to its entries.")
    loaded = {}
    for label, entries in items(labels, "mig-configs"):
        if not isinstance(entries, list) or not entries:
            raise ConfigError(f"Label {label}: needs a list of at least one entry.")
        loaded[label] = [entry(record, f"Label {label}, entry {number}") for number, record in enumerate(entries, 1)]
    return Config(loaded)


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_SHOWN]) + (f", and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")


def _named(rule: Entry, gpus: Sequence[Gpu]) -> List[Gpu]:
    """Find the GPUs of an entry. An entry whose device-filter matches none is for other nodes: then its devices do not count."""
    matching = [gpu for gpu in gpus if not rule.filters or any(_matches(device_filter, gpu) for device_filter in rule.filters)]
    if rule.devices is None or not matching:
        return matching
    chosen = []
    for device in rule.devices:
        found = [gpu for gpu in gpus if device in (gpu.index, gpu.uuid.upper(), address(gpu.address))]
        if not found:
            raise ConfigError(f"{rule.where}: this node has no GPU {_device(device)}. It has "
                              f"{'; '.join(f'{gpu.description}, {gpu.uuid} at {gpu.address}' for gpu in gpus)}.")
        chosen += found
    return [gpu for gpu in matching if gpu in chosen]


def _device(device: Union[int, str, Address]) -> str:
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*device) if isinstance(device, tuple) else str(device)


def _matches(device_filter: Tuple[int, Optional[int]], gpu: Gpu) -> bool:
    device, subsystem = device_filter
    return device == int(gpu.device, 16) and (subsystem is None or subsystem == int(gpu.subsystem or "0", 16))


def _wanted(rule: Entry, gpu: Gpu, gpus: Sequence[Gpu]) -> Wanted:
    counts = sorted((_offered(name, rule, gpu, gpus), name.compute, count) for name, count in rule.counts)
    instances = tuple(WantedInstance(_offered(listed.name, rule, gpu, gpus), listed.start, listed.compute) for listed in rule.instances)
    return Wanted(rule.enabled, tuple(counts), instances)


def _offered(name: Name, rule: Entry, gpu: Gpu, gpus: Sequence[Gpu]) -> str:
    """Return the name of a profile, if this GPU has it. Raises ConfigError."""
    if name.profile in gpu.profiles:
        return name.profile
    message = f"{rule.where}: {gpu.description} has no profile {name.profile}; it has {', '.join(gpu.profiles) or 'none'}."
    alike = [other for other in map(parse_name, gpu.profiles) if other[1:2] + other[3:] == name[1:2] + name[3:]]
    near = min(alike, key=lambda other: abs(other.gigabytes - name.gigabytes), default=name)
    if 0 < abs(near.gigabytes - name.gigabytes) < 4:
        message += f" Drivers differ in these names: perhaps {near.profile} is meant."
    have = sorted({other.device for other in gpus if name.profile in other.profiles} - {gpu.device})
    if have:
        filters = ", ".join(f'"{device}"' for device in have)
        message += f" Other GPUs of this node have it: device-filter: [{filters}] keeps the entry to them."
    raise ConfigError(message)
