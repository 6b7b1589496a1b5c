# SPDX-License-Identifier: Apache-2.0
"""Secure Boot, and whether nouveau holds or could take the GPUs."""

import re
from typing import Any, Dict, List, Optional

from ..host.files import HostFiles

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MODPROBE_FOLDERS = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
# nova is nouveau's successor for Turing and newer; both take a GPU that nvidia wants.
NOUVEAU_DRIVERS = ("nouveau", "nova_core", "nova-core", "NovaCore")
_BLACKLIST = re.compile(r"^\s*(?:blacklist\s+nouveau\b|install\s+nouveau\s+\S*/(?:true|false)\b)", re.M)
_CMDLINE = re.compile(r"(?:^|\s)(?:modprobe\.blacklist|rd\.driver\.blacklist|module_blacklist)=(?:\S*,)?nouveau(?:,|\s|$)")


def secure_boot(files: HostFiles, container: bool = False) -> Optional[bool]:
    """Whether the firmware enforces signatures; False without EFI, None when the variable cannot be read.

    A container engine hides /sys/firmware: that it is empty in a container says nothing.

    An EFI variable's file holds four bytes of attributes, then the value: one byte here, 1 for on.
    """
    if not files.exists("/sys/firmware/efi"):
        return None if container else False
    value = files.raw(SECURE_BOOT, 16)
    if value is None or len(value) < 5:
        return None
    return value[4] == 1


def nouveau(files: HostFiles) -> Dict[str, Any]:
    """The `nouveau` record: loaded now, kept from loading at the next boot, and by which files."""
    where: List[str] = []
    seen = set()
    for folder in MODPROBE_FOLDERS:
        for name in files.names(folder):
            # As modprobe reads them: a file of one name in an earlier folder hides those in later ones.
            if not name.endswith(".conf") or name in seen:
                continue
            seen.add(name)
            path = f"{folder}/{name}"
            if _BLACKLIST.search(files.text(path, 262144) or ""):
                where.append(path)
    if _CMDLINE.search(files.text("/proc/cmdline", 8192) or ""):
        where.append("/proc/cmdline")
    loaded = [name for name in ("nouveau", "nova_core") if files.exists("/sys/module/" + name)]
    return {"loaded": bool(loaded), "blacklisted": bool(where), "blacklisted_by": where}
