# SPDX-License-Identifier: Apache-2.0
"""Which driver a host can have at all: what is refused, and why. Pure; driver_plan asks these before it names packages."""

import re
from typing import Any, Dict, List, NamedTuple, Tuple

from ..facts.models import drivable, older_than
from ..host.errors import ForjaError
from . import package_names as names

SUPPORTED = {"Debian": ("12", "13"), "Ubuntu": ("22.04", "24.04")}
SPOKEN = {"distribution": "the distribution", "nvidia": "NVIDIA's repository", "grid": "Microsoft's GRID build"}


class Wish(NamedTuple):
    """What the user asked for; "auto" and "" leave it to the recommendation."""

    source: str = "auto"
    version: str = ""  # a branch (595) or a whole version (595.71.05)
    flavour: str = "auto"
    graphics: bool = False
    allow_ended: bool = False
    secure_boot: str = "refuse"  # or stage_mok, known_off
    upgrade: bool = False
    grid_releases: Tuple[str, ...] = ()


class Host(NamedTuple):
    """What is true of the host itself and its apt, wherever the facts of its hardware come from."""

    distribution: str
    version: str
    architecture: str
    kernels: List[Tuple[str, bool]]  # release and whether its headers are there: the running one first, then the newest
    installed: Dict[str, str]  # driver packages and their versions
    offered: Dict[str, List[str]]  # versions that apt can install, newest first
    mok: str = "missing"  # or enrolled: whether the firmware trusts the key that DKMS signs with
    image_packages: Tuple[str, ...] = ()  # installed meta packages of kernels, as linux-image-amd64
    ours: bool = False  # whether an earlier run set up the driver
    halves: Tuple[str, ...] = ()  # driver packages that dpkg could not configure, or was cut off in


def flavour_of(facts: Dict[str, Any], wish: Wish) -> str:
    kind = facts["recommended"]["driver"]
    gpus = drivable(facts["gpus"])
    for gpu in gpus:
        if wish.flavour == "open" and older_than(gpu["architecture"], "Turing"):
            raise ForjaError(f"{gpu['name']} is older than Turing: the open module does not drive it. "
                              "Leave nvidia_driver_flavour at auto.")
        if wish.flavour == "proprietary" and gpu["architecture"] and not older_than(gpu["architecture"], "Blackwell"):
            raise ForjaError(f"{gpu['name']} works with the open module only. Leave nvidia_driver_flavour at auto.")
    if wish.flavour == "auto" and kind == "grid":
        return "proprietary" if any(older_than(gpu["architecture"], "Turing") for gpu in gpus) else "open"
    return str(kind if wish.flavour == "auto" else wish.flavour)


def refuse_mixing(driver: Dict[str, Any], source: str) -> None:
    present = {"distribution": "distribution", "nvidia_repository": "nvidia", "run": "run"}.get(driver["source"] or "")
    if present == "run" and source == "grid":
        return
    if present == "run":
        raise ForjaError("The driver of this host came from a .run file, over which packages must not be installed. "
                          "Remove it by `nvidia-uninstall`, then run again.")
    if present and source != present:
        raise ForjaError(f"The driver of this host is from {SPOKEN[present]}, asked for is one from {SPOKEN[source]}; sources are "
                          "never mixed. Run once with "
                          "nvidia_driver_state: absent, then again.")


def newest_branch(facts: Dict[str, Any]) -> int:
    """The newest branch that still has a module for the oldest GPU."""
    old = any(older_than(gpu["architecture"], "Turing") for gpu in drivable(facts["gpus"]))
    return 580 if old else names.LAST_PROPRIETARY


def refuse_branch(facts: Dict[str, Any], wish: Wish, source: str, flavour: str, branch: str) -> None:
    if not re.match(r"\d{3}$", branch):
        raise ForjaError(f"nvidia_driver_version is {wish.version!r}: a branch such as 595 or a version such as 595.71.05 is wanted.")
    if source == "grid":
        return  # the host's vGPU software sets the branch, NVIDIA's calendar does not
    for gpu in drivable(facts["gpus"]):
        first = names.FIRST_BRANCH.get(gpu["architecture"] or "", 0)
        if int(branch) < first:
            raise ForjaError(f"R{branch} does not know {gpu['name']} ({gpu['architecture']}), which needs R{first} or "
                              f"newer.{' Choose nvidia_driver_source: nvidia.' if source == 'distribution' else ''}")
    if flavour == "proprietary" and int(branch) > newest_branch(facts):
        why = "is the last for GPUs older than Turing" if newest_branch(facts) == 580 else "is the last with a proprietary module"
        raise ForjaError(f"R{newest_branch(facts)} {why}; R{branch} has none for this host.")
    repaired = not wish.version and str(facts["driver"]["installed_version"]).split(".")[0] == branch
    if branch in names.ENDED and not wish.allow_ended and not repaired:
        other = f"Choose nvidia_driver_source: nvidia for R{facts['recommended']['branch']}. " if source == "distribution" else ""
        raise ForjaError(f"NVIDIA no longer maintains R{branch}. {other}Set nvidia_driver_allow_ended: true to have it all the same.")


def key_is_needed(facts: Dict[str, Any], host: Host, wish: Wish, prebuilt: bool) -> bool:
    """Whether a key has to be enrolled before anything else; raises where the user did not opt into that."""
    state = facts["secure_boot"]
    if prebuilt or state is False or wish.secure_boot == "known_off":
        return False
    if host.mok == "enrolled":
        return False
    if wish.secure_boot == "stage_mok":
        return True
    told = "Secure Boot is on" if state else "Whether Secure Boot is on cannot be told"
    raise ForjaError(
        f"{told}, and a module that is built on this host is refused by the kernel until the firmware trusts the key that signed it. "
        "Nothing was changed. Either switch Secure Boot off in the firmware; or set nvidia_driver_secure_boot: stage_mok and "
        "nvidia_driver_mok_password, run, reboot, and at the console choose `Enroll MOK`, `Continue`, `Yes`, give that password, and "
        f"run again{'' if state else '; or, if you know that it is off, set nvidia_driver_secure_boot: known_off'}.")
