# SPDX-License-Identifier: Apache-2.0
"""Empty a folder of what a program wrote there: the folder itself, other people's files and mounted file systems are kept."""

import os
import re
import shutil
from typing import Dict, List, NamedTuple

from .errors import ForjaError

# File systems that an engine mounts below its own folder; what is mounted there goes with the containers.
OWN_MOUNTS = ("overlay", "fuse.fuse-overlayfs", "nsfs", "tmpfs", "shm")


class Plan(NamedTuple):
    """Entries to delete, and entries to keep with the reason; paths are absolute."""

    delete: List[str]
    keep: Dict[str, str]


def read_mounts(text: str) -> Dict[str, str]:
    """Parse /proc/self/mountinfo: mount point -> type of the file system."""
    result = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 4 and after:
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), fields[4])
            result[point] = after.split()[0]
    return result


def plan(folder: str, entries: List[str], written: str, mounts: Dict[str, str]) -> Plan:
    """Plan by names: `written` is a regular expression of the names that the program writes."""
    delete, keep = [], {}  # type: List[str], Dict[str, str]
    for name in sorted(entries):
        path = os.path.join(folder, name)
        foreign = [point for point, kind in mounts.items() if (point + "/").startswith(path + "/") and kind not in OWN_MOUNTS]
        if not re.match(f"(?:{written})$", name):
            keep[path] = "not written by the engine"
        elif foreign:
            keep[path] = f"{sorted(foreign)[0]} is a mounted file system"
        else:
            delete.append(path)
    return Plan(delete, keep)


def gather(folder: str, written: str) -> Plan:
    """Plan for a folder of this host; a folder that does not exist is empty. A link to a folder is followed."""
    real = os.path.realpath(folder)
    if not os.path.isabs(folder) or real == "/":
        raise ForjaError(f"{folder} cannot be emptied: an absolute path other than / is expected. Nothing was changed.")
    if not os.path.isdir(real):
        return Plan([], {})
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as handle:
        mounts = read_mounts(handle.read())
    return plan(real, os.listdir(real), written, mounts)


def apply(paths: List[str]) -> None:
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
