# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's kernel module on disk, kernel by kernel: version, flavour, DKMS state, headers. No modinfo, no dkms run."""

import re
import struct
from typing import Any, Dict, List, Optional, Tuple

from ..host.files import HostFiles

MODULES = "/lib/modules"
DKMS = "/var/lib/dkms"
# Debian names the file nvidia-current.ko, the .run installer and everybody else nvidia.ko.
_IN_DEP = re.compile(rb"^([^\s:]*/(?:nvidia|nvidia-current|nvidia-current-open)\.ko(?:\.(?:xz|zst|gz))?):", re.M)


def kernels(files: HostFiles, running: Optional[str]) -> List[Dict[str, Any]]:
    """One record for each kernel that has modules installed, the running one first."""
    dkms, known = _dkms(files)
    found: List[Dict[str, Any]] = []
    releases = [name for name in files.names(MODULES) if files.is_folder(f"{MODULES}/{name}/kernel")]
    if running and running not in releases and files.exists(f"{MODULES}/{running}"):
        releases.append(running)
    for release in releases:
        version, flavour, path = _module(files, release)
        dkms_version, state = dkms.get(release, (known, "added") if known and not path else (None, None))
        found.append(
            {
                "release": release,
                "running": release == running,
                "headers": files.exists(f"{MODULES}/{release}/build/Makefile"),
                "module": path,
                "version": version or (dkms_version if path else None),
                "flavour": flavour,
                "dkms": state,
                "dkms_version": dkms_version,
            }
        )
    return sorted(found, key=lambda kernel: (not kernel["running"], kernel["release"]))


def newest(found: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """The kernel that boots next unless somebody chooses another."""
    return max(found, key=lambda kernel: _numbers(kernel["release"])) if found else None


def flavour_of_license(text: str) -> Optional[str]:
    """open or proprietary from a module's licence field."""
    return {"Dual MIT/GPL": "open", "NVIDIA": "proprietary"}.get(text.strip())


def _module(files: HostFiles, release: str) -> Tuple[Optional[str], Optional[str], Optional[str]]:
    """Version, flavour and path of the module that modprobe would load for this kernel."""
    match = _IN_DEP.search(files.raw(f"{MODULES}/{release}/modules.dep", 16 * 1024 * 1024) or b"")
    if not match:
        return None, None, None
    path = f"{MODULES}/{release}/{match.group(1).decode('utf-8', 'replace')}"
    # Compressed modules are not opened: unpacking 60 MB to read one line costs seconds. DKMS and packages tell then.
    info = modinfo(files, path) if path.endswith(".ko") else {}
    return info.get("version"), flavour_of_license(info.get("license", "")), path


def modinfo(files: HostFiles, path: str) -> Dict[str, str]:
    """The .modinfo section of an uncompressed 64-bit little-endian module, the first value of each key."""
    head = files.raw(path, 64) or b""
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return {}
    offset, size, count, names_at = struct.unpack_from("<Q", head, 40) + struct.unpack_from("<HHH", head, 58)
    table = files.raw(path, size * count, offset) or b""
    if size < 64 or len(table) < size * count or names_at >= count:
        return {}

    def section(number: int) -> Tuple[int, int, int]:
        name, at, length = struct.unpack_from("<I", table, number * size) + struct.unpack_from("<QQ", table, number * size + 24)
        return name, at, min(length, 1 << 20)

    _name, at, length = section(names_at)
    names = files.raw(path, length, at) or b""
    for number in range(count):
        name, at, length = section(number)
        if names[name : name + 9] == b".modinfo\0":
            pairs = (files.raw(path, length, at) or b"").split(b"\0")
            fields = [pair.decode("utf-8", "replace").partition("=") for pair in pairs if pair]
            return {key: value for key, _equals, value in reversed(fields)}
    return {}


def _dkms(files: HostFiles) -> Tuple[Dict[str, Tuple[str, str]], Optional[str]]:
    """What DKMS built: version and state (built or installed) by kernel release; and the newest version it knows.

    DKMS keeps its state in its tree: VERSION/KERNEL/ARCH/module for what is built, a link kernel-KERNEL-ARCH for what is
    installed. A kernel without either has nothing: DKMS then says "added".
    """
    found: Dict[str, Tuple[str, str]] = {}
    versions: List[str] = []
    for name in files.names(DKMS):
        # Debian says -current, Canonical -srv of the drivers for servers.
        if not re.match(r"nvidia(-current|-srv)?(-open)?$", name):
            continue
        base = f"{DKMS}/{name}"
        entries = files.names(base)
        current = {}  # what is installed, by kernel and architecture
        for entry in entries:
            if entry.startswith("kernel-"):
                current[entry[7:]] = (files.link(f"{base}/{entry}") or "").split("/")[0]
        for version in entries:
            if not re.match(r"\d", version):
                continue
            versions.append(version)
            for kernel in files.names(f"{base}/{version}"):
                if kernel in ("build", "source"):
                    continue
                installed = any(key.startswith(kernel + "-") and value == version for key, value in current.items())
                if installed or kernel not in found:
                    found[kernel] = (version, "installed" if installed else "built")
    return found, max(versions, key=_numbers) if versions else None


def _numbers(version: str) -> List[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
