# SPDX-License-Identifier: Apache-2.0
"""The GPU facts of a host as one line for a person. Pure: facts in, a line out."""

import re
from typing import Any, Dict, List, Optional

_WHERE = {"wsl2": "WSL2: ", "wsl1": "WSL1: ", "vm": "VM: ", "container": "Container: ", "azure": "Azure: "}


def line(facts: Dict[str, Any]) -> str:
    """Problems, then what is there and with which driver, then what is to be done; `facts` has every subset of gpu_facts."""
    parts = [_problems(facts["problems"]), _host(facts), _advice(facts)]
    return "; ".join(part for part in parts if part)


def _problems(problems: List[Dict[str, str]]) -> str:
    if not problems:
        return ""
    names: List[str] = []
    for problem in problems:
        name = problem["name"].replace("_", " ")
        if name not in names:
            names.append(name)
    return f"{len(problems)} problem{'' if len(problems) == 1 else 's'} ({', '.join(names)})"


def _host(facts: Dict[str, Any]) -> str:
    platform = facts["platform"]
    size = (platform["azure"] or {}).get("size")
    where = f"Azure {size}: " if size else _WHERE.get(platform["kind"], "")
    # Graphics inside the processor say nothing where there is a real GPU; a Jetson's is its real one.
    gpus = [gpu for gpu in facts["gpus"] if not gpu["integrated"]] or facts["gpus"]
    groups: List[str] = []
    for gpu in gpus:
        groups.append(f"{_label(gpu, platform)} ({_driver(gpu, facts)})")
    things = [f"{groups.count(group)} x {group}" if groups.count(group) > 1 else group for group in _once(groups)]
    if facts["nvswitch"]:
        things.append(f"{facts['nvswitch']} NVSwitch{'' if facts['nvswitch'] == 1 else 'es'}")
    if platform["jetson"] and platform["jetson"]["jetpack"]:
        things.append(f"JetPack {platform['jetson']['jetpack']}")
    return where + (", ".join(things) or "no GPU")


def _once(groups: List[str]) -> List[str]:
    return [group for number, group in enumerate(groups) if group not in groups[:number]]


def _label(gpu: Dict[str, Any], platform: Dict[str, Any]) -> str:
    """The name as people say it, with the memory where it is known and not in the name already."""
    jetson = platform["jetson"] if gpu["integrated"] else None
    name = str((jetson and jetson["module_name"]) or gpu["name"] or gpu["pci_id"] or "GPU")
    name = re.sub(r"^NVIDIA (GeForce )?", "", name)
    azure = platform["azure"] or {}
    share = azure.get("gpu_share")
    memory = round(gpu["memory_mib"] / 1024) if gpu["memory_mib"] else azure.get("gpu_memory_gib")
    # What the processor shares is less than the board's name promises, and no GPU memory.
    if memory and not gpu["integrated"] and not re.search(r"\d ?GB\b", name):
        name += f" {memory} GB"
    return f"{share} {name}" if share not in (None, "1") else name


def _driver(gpu: Dict[str, Any], facts: Dict[str, Any]) -> str:
    version = _version(facts)
    if facts["platform"]["kind"] in ("wsl2", "wsl1"):
        return f"driver {version} of Windows" if version else "driver of Windows"
    if gpu["driver"] == "nvidia" and version:
        return " ".join(filter(None, ("nvidia", version, facts["driver"]["flavour"])))
    return str(gpu["driver"] or "no driver")


def _version(facts: Dict[str, Any]) -> Optional[str]:
    version = facts["driver"]["loaded_version"] or facts["nvml"]["driver_version"]
    return str(version) if version else None


def _advice(facts: Dict[str, Any]) -> str:
    driver, wanted = facts["driver"], facts["recommended"]
    if driver["reboot_required"]:
        return "reboot required"
    if wanted["driver"] == "rocm":
        return "" if driver["rocm_version"] else "ROCm recommended"
    # What works is left alone, whatever is recommended for a host without a driver.
    if wanted["driver"] == "none" or driver["loaded_version"]:
        return ""
    if driver["installed_version"]:
        return f"driver {driver['installed_version']} is installed and not loaded"
    return f"{wanted['driver'].replace('grid', 'GRID')} driver {wanted['branch']} recommended"
