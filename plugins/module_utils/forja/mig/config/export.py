# SPDX-License-Identifier: Apache-2.0
"""The layout of a running node as a mig-parted file."""

import json
from typing import Any, Dict, List, Sequence, Tuple

from ..layout.card import Gpu
from ..layout.names import ci_name


def exported(gpus: Sequence[Gpu], label: str) -> Dict[str, Any]:
    """Return the layout as data that apply accepts. Equal GPUs share an entry; those without MIG are left out, as with `devices: all`."""
    groups: List[Tuple[Dict[str, Any], List[int]]] = []
    capable = [gpu for gpu in gpus if gpu.capable]
    for gpu in capable:
        entry = _entry(gpu)
        for known, members in groups:
            if known == entry:
                members.append(gpu.index)
                break
        else:
            groups.append((entry, [gpu.index]))
    entries = [dict({"devices": "all" if len(groups) == 1 else members}, **entry) for entry, members in groups]
    entries = entries or [{"devices": "all", "mig-enabled": False}]
    return {"version": "v1", "mig-configs": {label: entries}}


def as_yaml(data: Dict[str, Any]) -> str:
    """Render it as YAML without a library, which not every host has; strings are quoted as in JSON."""
    lines = ["version: v1", "mig-configs:"]
    for label, entries in data["mig-configs"].items():
        lines.append(f"  {json.dumps(label)}:")
        for entry in entries:
            devices = json.dumps(entry["devices"]).strip('"')
            lines.append(f"    - devices: {devices}")
            lines.append(f"      mig-enabled: {json.dumps(entry['mig-enabled'])}")
            devices = entry.get("mig-devices", {})
            if entry["mig-enabled"]:
                lines.append(f"      mig-devices:{'' if devices else ' {}'}")
                lines += [f"        {json.dumps(name)}: {count}" for name, count in devices.items()]
    return "\n".join(lines) + "\n"


def _entry(gpu: Gpu) -> Dict[str, Any]:
    if not gpu.enabled:
        return {"mig-enabled": False}
    names = {profile.id: profile.name for profile in gpu.profiles}
    devices: Dict[str, int] = {}
    for instance in gpu.instances:
        for compute in instance.compute:
            name = ci_name(names[instance.profile], compute.slices)
            devices[name] = devices.get(name, 0) + 1
    return {"mig-enabled": True, "mig-devices": {name: devices[name] for name in sorted(devices)}}
