# SPDX-License-Identifier: Apache-2.0
"""Driver packages as dpkg's own status file lists them; no program is started."""

import re
from typing import Callable, Dict, List, NamedTuple

from ..host.files import HostFiles

STATUS = "/var/lib/dpkg/status"
_DRIVER = re.compile(
    rb"^Package: ((?:nvidia|libnvidia|cuda-drivers|linux-modules-nvidia|linux-objects-nvidia|xserver-xorg-video-nvidia"
    rb"|firmware-nvidia|amdgpu-dkms)[^\n]*)\n((?:[^\n]+\n)*)",
    re.M,
)
# Not part of the driver, though named alike. Debian's firmware-nvidia-graphics is what nouveau needs.
_OTHERS = re.compile(
    r"nvidia-(container|cuda-|l4t|cudnn|nsight|jetpack|profiler|visual|vaapi|docker)|libnvidia-(container|l4t)|firmware-nvidia-graphics$"
)


class Package(NamedTuple):
    """One installed package."""

    version: str
    maintainer: str


def installed(files: HostFiles) -> Dict[str, Package]:
    """The installed driver packages and nvidia-l4t-core, by name. Empty where dpkg is not used."""
    return _with_status(files, lambda status: status == "installed")


def halves(files: HostFiles) -> List[str]:
    """Names of the driver packages that dpkg has unpacked, and could not configure or was cut off in."""
    return sorted(_with_status(files, lambda status: status not in ("installed", "config-files", "not-installed")))


def _with_status(files: HostFiles, fits: Callable[[str], bool]) -> Dict[str, Package]:
    found: Dict[str, Package] = {}
    status = files.raw(STATUS, 64 * 1024 * 1024)
    for match in _DRIVER.finditer((status or b"") + b"\n"):
        name = match.group(1).decode("utf-8", "replace").strip()
        if _OTHERS.match(name) and name != "nvidia-l4t-core":
            continue
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", match.group(2).decode("utf-8", "replace"), re.M))
        if fits((fields.get("Status", "").split() or ["not-installed"])[-1]):
            found[name] = Package(fields.get("Version", ""), fields.get("Maintainer", ""))
    return found


def upstream_version(version: str) -> str:
    """NVIDIA's own version in a package version: 580.126.20 for 1:580.126.20-0ubuntu0.24.04.1."""
    return re.sub(r"^\d+:", "", version).split("-")[0]
