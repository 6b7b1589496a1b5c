# SPDX-License-Identifier: Apache-2.0
"""A Jetson's identity from its device tree and L4T release; no NVIDIA program is asked."""

import re
from typing import Any, Dict, List, Optional, Tuple

from ..host.files import HostFiles
from . import jetpack
from .pci import blank_gpu

RELEASE_FILE = "/etc/nv_tegra_release"
_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([0-9.]+)")
_THOR_T5000_MIB = 96 * 1024  # a Thor with this much memory is a T5000 when its boot control file does not say


def record(files: HostFiles, l4t_package: Optional[str]) -> Tuple[Dict[str, Any], List[str]]:
    """The `jetson` record and the problems found. `l4t_package` is the installed version of nvidia-l4t-core."""
    problems: List[str] = []
    compatible = (files.text("/proc/device-tree/compatible", 4096) or "").split()
    socs = re.findall(r"nvidia,(tegra\d+\w*)", " ".join(compatible))
    soc = socs[-1] if socs else None
    family, _architecture, capability = jetpack.SOCS.get(soc or "", (None, None, None))
    module = _module(compatible)
    l4t = _l4t(files, l4t_package)
    release, exact = _release(l4t)
    if soc and not family:
        problems.append(f"The Jetson SoC {soc} is newer than this version of Forja: its compute capability is not known.")
    if module and module not in jetpack.MODULES:
        problems.append(f"The Jetson module {module} is not in Forja's table: its name is not known.")
    if l4t is None:
        problems.append(f"The L4T release could not be read from {RELEASE_FILE} nor from the package nvidia-l4t-core.")
    elif not exact:
        taken = f"it is taken for JetPack {release[0]} or newer" if release else "its JetPack is not known"
        problems.append(f"L4T {l4t} is not in Forja's table; {taken}.")
    return {
        "model": files.word("/proc/device-tree/model"),
        "module": module,
        "module_name": _module_name(files, module, soc),
        "soc": soc,
        "family": family,
        "compute_capability": capability,
        "l4t": l4t,
        "jetpack": release[0] if release else None,
        "cuda": release[1] if release else None,
    }, problems


def gpu(jetson: Dict[str, Any], files: HostFiles) -> Dict[str, Any]:
    """The record of the GPU inside the SoC, which is on no PCI bus that Linux sees (Thor's excepted)."""
    family, architecture, capability = jetpack.SOCS.get(jetson["soc"] or "", (None, None, None))
    found = blank_gpu()
    found.update(
        vendor="nvidia",
        name=f"NVIDIA {family or jetson['soc'] or 'Tegra'}",
        architecture=architecture,
        compute_capability=capability,
        integrated=True,
        driver="nvgpu" if files.exists("/sys/module/nvgpu") else "nvidia" if files.exists("/sys/module/nvidia") else None,
        memory_mib=memory_mib(files),
    )
    return found


def memory_mib(files: HostFiles) -> Optional[int]:
    """The memory that processor and GPU share, in MiB (MemTotal: what firmware keeps is not in it)."""
    total = re.search(r"^MemTotal:\s*(\d+) kB", files.text("/proc/meminfo", 4096) or "", re.M)
    return int(total.group(1)) // 1024 if total else None


def _module(compatible: List[str]) -> Optional[str]:
    # Names are like p3768-0000+p3767-0005-super: carrier board and module; only modules are in the table.
    text = " ".join(compatible)
    known = [part for part in re.findall(r"p\d{4}-\d{4}", text) if part in jetpack.MODULES]
    # A name of one board alone may be that of a kit; of one that the table lacks nothing is said.
    candidates = known or re.findall(r"\+(p\d{4}-\d{4})", text)
    return str(candidates[0]) if candidates else None


def _module_name(files: HostFiles, module: Optional[str], soc: Optional[str]) -> Optional[str]:
    if soc == "tegra264":
        # The device tree is the same for both; the boot control file knows, else the memory size tells.
        boot = (files.text("/etc/nv_boot_control.conf", 8192) or "").lower()
        if "t4000" in boot:
            return "Jetson T4000"
        if "jetson-agx-thor-devkit" in boot or (memory_mib(files) or 0) >= _THOR_T5000_MIB:
            return "Jetson T5000"
    return jetpack.MODULES.get(module or "")


def _l4t(files: HostFiles, package: Optional[str]) -> Optional[str]:
    match = _RELEASE.search(files.text(RELEASE_FILE, 4096) or "")
    if match:
        return f"{match.group(1)}.{match.group(2).rstrip('.')}"
    match = re.match(r"(\d+\.\d+(?:\.\d+)?)", package or "")
    return match.group(1) if match else None


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _release(l4t: Optional[str]) -> Tuple[Optional[Tuple[str, str]], bool]:
    """The table's line for an L4T release, and whether it is that very release or the nearest older of its series."""
    if l4t is None:
        return None, False
    if l4t.count(".") == 1:
        l4t += ".0"
    if l4t in jetpack.RELEASES:
        return jetpack.RELEASES[l4t], True
    wanted = _numbers(l4t)
    older = [known for known in jetpack.RELEASES if _numbers(known)[0] == wanted[0] and _numbers(known) <= wanted]
    return (jetpack.RELEASES[max(older, key=_numbers)] if older else None), False
