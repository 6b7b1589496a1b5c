# SPDX-License-Identifier: Apache-2.0
"""Parse one entry of a configuration file. What mig-parted accepts means the same here; what it silently ignores is an error.

Beyond mig-parted: `devices` may name GPUs by UUID or PCI address, and `mig-devices` may be a list of GPU instances, each with
`profile` and, if wanted, `placement` (its first memory slot), `compute` (such as [1c, 2c], in this order) and `count`.
"""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..layout.names import BadNameError, Name, compute_sizes, parse
from .document import ConfigError, items, known, shortened

_KEYS = ("device-filter", "devices", "mig-enabled", "mig-devices")
_INSTANCE_KEYS = ("profile", "placement", "compute", "count")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{1,16}|[1-9][0-9]{0,15}")
_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
_NVIDIA = 0x10DE
_LARGEST = 10**6

Address = Tuple[int, ...]


class ListedInstance(NamedTuple):
    """A GPU instance of the list form."""

    name: Name
    start: Optional[int]
    compute: Tuple[int, ...]


class Entry(NamedTuple):
    where: str  # for messages
    filters: Tuple[Tuple[int, Optional[int]], ...]  # device and vendor, subsystem and its vendor; empty means any
    devices: Optional[Tuple[Union[int, str, Address], ...]]  # index, UUID in capitals, or PCI address; None means all
    enabled: bool
    counts: Tuple[Tuple[Name, int], ...]
    instances: Tuple[ListedInstance, ...]


def entry(data: Any, where: str) -> Entry:
    """Parse and check an entry. Raises ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: needs the keys devices and mig-enabled, not {_kind(data)}.")
    given = dict(items(data, where))
    for key in given:
        known(key, _KEYS, where)
    for key in ("devices", "mig-enabled"):
        if key not in given:
            raise ConfigError(f"{where}: the key {key} is missing.")
    enabled, wanted = given["mig-enabled"], given.get("mig-devices")
    if not isinstance(enabled, bool):
        raise ConfigError(f"{where}: mig-enabled must be true or false, without quotes, not {_kind(enabled)}.")
    if enabled and wanted is None:
        raise ConfigError(f"{where}: mig-enabled is true, so the key mig-devices is needed; {{}} asks for none.")
    if not enabled and wanted:
        raise ConfigError(f"{where}: mig-enabled is false, so there can be no mig-devices.")
    counts, instances = _wanted({} if wanted is None else wanted, where + ", mig-devices")
    return Entry(where, _filters(given.get("device-filter"), where), _devices(given["devices"], where), enabled, counts, instances)


def address(text: str) -> Optional[Address]:
    """Parse a PCI address of any case and width of its domain to numbers; None when it is not one."""
    found = _ADDRESS.fullmatch(text)
    return tuple(int(part or "0", 16) for part in found.groups()) if found else None


def _kind(data: Any) -> str:
    if data is None:
        return "nothing"
    return "true or false" if isinstance(data, bool) else f"the text {shortened(data)!r}" if isinstance(data, str) else shortened(data)


def _whole(data: Any, where: str) -> int:
    """Read a number of 0 or more; 2.0 is 2, as in JSON."""
    fits = isinstance(data, int) or isinstance(data, float) and data.is_integer()
    if isinstance(data, bool) or not fits or data < 0:
        raise ConfigError(f"{where}: must be a number of 0 or more, without quotes, not {_kind(data)}.")
    if data > _LARGEST:
        raise ConfigError(f"{where}: {shortened(data)} is too large.")
    return int(data)


def _filters(data: Any, where: str) -> Tuple[Tuple[int, Optional[int]], ...]:
    if data is None or data == "":
        return ()
    found: List[Tuple[int, Optional[int]]] = []
    for text in data if isinstance(data, list) else [data]:
        parts = text.split(":") if isinstance(text, str) else []
        if len(parts) not in (1, 2) or not all(_NUMBER.fullmatch(part) and int(part, 0) < 1 << 32 for part in parts):
            hint = "; it needs quotes" if isinstance(text, int) else ""
            raise ConfigError(f"{where}: device-filter must look like \"0x20B010DE\" or \"0x25B610DE:0x14A910DE\", not "
                              f"{_kind(text)}{hint}.")
        numbers = [int(part, 0) for part in parts]
        if numbers[0] & 0xFFFF != _NVIDIA:
            raise ConfigError(f"{where}: device-filter {text} matches no NVIDIA GPU: the last four digits are the vendor, 10DE.")
        found.append((numbers[0], numbers[1] if len(numbers) == 2 else None))
    return tuple(found)


def _devices(data: Any, where: str) -> Optional[Tuple[Union[int, str, Address], ...]]:
    if data == "all":
        return None
    if not isinstance(data, list):
        raise ConfigError(f"{where}: devices must be all or a list such as [0, 1], not {_kind(data)}.")
    found: List[Union[int, str, Address]] = []
    for device in data:
        place = address(device) if isinstance(device, str) else None
        if place is not None:
            found.append(place)
        elif isinstance(device, str) and device[:4].upper() == "GPU-":
            found.append(device.upper())
        elif isinstance(device, str):
            raise ConfigError(f"{where}: devices: {shortened(device)!r} names no GPU; use numbers without quotes, UUIDs (GPU-...) or "
                              "PCI addresses such as 0000:07:00.0.")
        elif isinstance(device, float):
            raise ConfigError(f"{where}, devices: must be a number such as 4, not {device!r}; a PCI address needs quotes, else YAML "
                              "reads 0000:00:04.0 as 4.0.")
        else:
            found.append(_whole(device, where + ", devices"))
    return tuple(found)


def _wanted(data: Any, where: str) -> Tuple[Tuple[Tuple[Name, int], ...], Tuple[ListedInstance, ...]]:
    counts: Dict[Name, int] = {}
    instances: List[ListedInstance] = []
    if isinstance(data, Mapping):
        for key, value in items(data, where):
            name, count = _name(key, where), _whole(value, f"{where}, {shortened(key)}")
            if name.compute not in compute_sizes(name.slices):
                raise ConfigError(f"{where}: {shortened(key)} is not valid: {_sizes(name)}")
            counts[name] = counts.get(name, 0) + count
    elif isinstance(data, list):
        for number, record in enumerate(data, 1):
            instances += _instance(record, f"{where}, item {number}")
    else:
        raise ConfigError(f"{where}: must be a mapping such as {{\"1g.5gb\": 7}} or a list of GPU instances, not {_kind(data)}.")
    if data and not any(counts.values()) and not instances:
        raise ConfigError(f"{where}: all counts are 0; write {{}} to ask for none.")
    return tuple((name, count) for name, count in counts.items() if count), tuple(instances)


def _name(text: Any, where: str) -> Name:
    try:
        return parse(text if isinstance(text, str) else shortened(text))
    except BadNameError as error:
        raise ConfigError(f"{where}: {error}") from None


def _sizes(name: Name) -> str:
    return (f"a GPU instance of {name.slices} slices takes compute instances of "
            f"{' or '.join(f'{size}c' for size in compute_sizes(name.slices))}.")


def _instance(data: Any, where: str) -> Sequence[ListedInstance]:
    given = dict(items(data, where)) if isinstance(data, Mapping) else {}
    for key in given:
        known(key, _INSTANCE_KEYS, where)
    if "profile" not in given:
        raise ConfigError(f"{where}: needs at least the key profile, as in {{profile: 3g.20gb, placement: 4, compute: [1c, 2c]}}.")
    name = _name(given["profile"], where)
    if name.compute != name.slices:
        raise ConfigError(f"{where}: name the GPU instance, profile: {name.profile}, and give compute: [{name.compute}c].")
    start = given.get("placement")
    count = _whole(given.get("count", 1), where + ", count")
    if start is not None:
        start = _whole(start, where + ", placement")
        if count > 1:
            raise ConfigError(f"{where}: only one GPU instance can be at one placement, not {count}.")
    if count > 99:
        raise ConfigError(f"{where}, count: no GPU holds {count} instances.")
    compute = given.get("compute", [f"{name.slices}c"])
    if not isinstance(compute, list) or not compute:
        raise ConfigError(f"{where}: compute must be a list such as [1c, 2c], not {_kind(compute)}.")
    sizes = [int(text[:-1]) if isinstance(text, str) and re.match(r"[0-9]{1,3}c\Z", text) else text for text in compute]
    for size in sizes:
        if isinstance(size, bool) or size not in compute_sizes(name.slices):
            raise ConfigError(f"{where}: compute: {_kind(size)} is not valid: {_sizes(name)}")
    return [ListedInstance(name, start, tuple(sizes))] * count
