# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's driver is called in each source: names of packages by distribution, branch, flavour and purpose. Data, no decisions.

NVIDIA's names are from its driver installation guide of 2026, Canonical's and Debian's from their archives.
"""

import re
from typing import List, NamedTuple, Tuple

# Branches that NVIDIA no longer maintains (supported drivers, autumn 2026), and the first that has no proprietary module any more.
ENDED = ("470", "525", "535", "550", "560", "565", "570", "575")
LAST_PROPRIETARY = 610
MAINTAINED = ("595", "580")  # what to take of an archive that lacks the recommended one, best first
# The first branch that knows an architecture; older ones know all branches named here.
FIRST_BRANCH = {"Ada": 525, "Hopper": 525, "Blackwell": 570}
DEBIAN_BRANCH = {"12": "535", "13": "550"}
RENAMED = 590  # from here on the packages of NVIDIA's repository for Ubuntu have no branch in their names
WITHOUT_BRANCH = re.compile(r"(libnvidia-(cfg1|common|compute|decode|encode|extra|fbc1|gl)|cuda-drivers|xserver-xorg-video-nvidia"
                            r"|nvidia-(open|utils|compute-utils|kernel-common|(dkms|driver|kernel-source)(-open)?))$")
# Of the driver's packages those whose version is not the driver's.
OWN_VERSION = re.compile(r"linux-(modules|objects|signatures)-nvidia|nvidia-(driver-pinning|legacy-check|support|installer-cleanup)"
                         r"|nvidia-kernel-common$|nvidia-modprobe$|nvidia-settings$|libnvidia-egl-|nvidia-prime")
# Others may use these too: they go when nothing needs them any more. Not so nvidia-kernel-common, which for Ubuntu blacklists nouveau.
LEFT_TO_APT = re.compile(r"nvidia-(support|installer-cleanup|legacy-check|modprobe|settings|prime)|libnvidia-egl-")
# What is held as one set, and what is called like it but is something else. Canonical's modules (linux-modules-nvidia-*) are not held: they
# come with new kernels, and depend on exactly the driver that is.
SET = ("cuda-drivers*", "firmware-nvidia-*", "libcuda1", "libcudadebugger1", "libnvcuvid1", "libnvidia-*", "libnvoptix1", "nvidia-*",
       "xserver-xorg-video-nvidia*")
OTHERS = ("firmware-nvidia-graphics", "libnvidia-container*", "nvidia-container-*", "nvidia-cuda-*", "nvidia-cudnn*", "nvidia-docker*",
          "nvidia-driver-pinning-*", "nvidia-fs*", "nvidia-gds*", "nvidia-nsight*", "nvidia-profiler*", "nvidia-vaapi-driver",
          "nvidia-visual-profiler*")
# What an interrupted change of the driver leaves half installed. Anything else, such as a kernel, is not this role's to remove.
LEFTOVERS = SET + ("libcuda*", "linux-modules-nvidia-*", "linux-objects-nvidia-*", "linux-signatures-nvidia-*")
# How DKMS calls the module: NVIDIA and Ubuntu nvidia, Ubuntu for servers nvidia-srv, Debian nvidia-current, each with -open or not.
DKMS = "nvidia(-current|-srv)?(-open)?"


# What brings the parts for displays.
DESKTOP = re.compile(r"(nvidia-driver|nvidia-open|cuda-drivers)(-[0-9]{3})?(-open)?$")


class Names(NamedTuple):
    """`set` is installed with one version; `others` have versions of their own; `wrong` must not stay beside them."""

    set: List[str]
    others: List[str]
    wrong: List[str]


def of_debian(flavour: str, graphics: bool) -> Names:
    modules = {"open": "nvidia-open-kernel-dkms", "proprietary": "nvidia-kernel-dkms"}
    module = modules.pop(flavour)
    set_ = [module, "firmware-nvidia-gsp", "libcuda1", "libnvidia-ml1", "nvidia-smi"] + (["nvidia-driver"] if graphics else [])
    return Names(set_, ["nvidia-persistenced"], sorted(modules.values()))


def of_nvidia_for_debian(flavour: str, graphics: bool) -> Names:
    modules = {"open": "nvidia-kernel-open-dkms", "proprietary": "nvidia-kernel-dkms"}
    whole = {"open": "nvidia-open", "proprietary": "cuda-drivers"}
    module, all_ = modules.pop(flavour), whole.pop(flavour)
    set_ = ["nvidia-driver-cuda", module, "nvidia-persistenced"] + ([all_] if graphics else [])
    return Names(set_, [], sorted(modules.values()) + sorted(whole.values()))


def of_nvidia_for_ubuntu(flavour: str, graphics: bool, branch: str) -> Names:
    suffix = "" if int(branch) >= RENAMED else "-" + branch
    modules = {"open": f"nvidia-dkms{suffix}-open", "proprietary": f"nvidia-dkms{suffix}"}
    whole = {"open": "nvidia-open" + suffix, "proprietary": "cuda-drivers" + suffix}
    module, all_ = modules.pop(flavour), whole.pop(flavour)
    # nvidia-utils has nvidia-smi, nvidia-compute-utils the persistence daemon.
    set_ = ["libnvidia-compute" + suffix, module, "nvidia-utils" + suffix, "nvidia-compute-utils" + suffix]
    return Names(set_ + ([all_] if graphics else []), [], sorted(modules.values()) + sorted(whole.values()))


def series(flavour: str, graphics: bool, branch: str) -> str:
    """The middle of Canonical's names: -server is the one for data centers, which has no desktop part."""
    return branch + ("" if graphics else "-server") + ("-open" if flavour == "open" else "")


def of_ubuntu(flavour: str, graphics: bool, branch: str, kernels: List[str], kernel_flavours: List[str]) -> Names:
    """With modules that Canonical built and signed; `kernels` are releases for which there is one."""
    name = series(flavour, graphics, branch)
    plain = branch + ("" if graphics else "-server")
    set_ = [f"nvidia-{'driver' if graphics else 'headless-no-dkms'}-{name}", "nvidia-utils-" + plain, "nvidia-compute-utils-" + plain]
    modules = [f"linux-modules-nvidia-{name}-{end}" for end in kernels + kernel_flavours]
    other = series("proprietary" if flavour == "open" else "open", graphics, branch)
    return Names(set_, modules, [f"linux-modules-nvidia-{other}-{end}" for end in kernels + kernel_flavours])


def fabric_manager(source: str, branch: str) -> List[str]:
    """The fabric manager and NSCQ, with the driver's version; empty where the source has none."""
    if source == "nvidia" and int(branch) >= 580:
        return ["nvidia-fabricmanager", "libnvidia-nscq"]
    return [] if source == "debian" else ["nvidia-fabricmanager-" + branch, "libnvidia-nscq-" + branch]


def kernel_lines(releases: List[str], images: Tuple[str, ...], architecture: str) -> List[str]:
    """What Canonical's meta packages of modules end in, of the kernels that come: generic, or generic-hwe-24.04 where that brings them."""
    return sorted(image[len("linux-image-"):] for image in images) or sorted({kernel_flavour(one, architecture) for one in releases})


def of_other_series(name: str, source: str, graphics: bool, branch: str) -> bool:
    """Whether a driver package for Ubuntu is named after another branch than the wanted one, or not after one as it should be.

    They exclude each other, so they go when those of the wanted branch come.
    """
    if name.startswith("nvidia-driver-pinning-") or name in fabric_manager("ubuntu", branch):
        return False
    numbered = source != "nvidia" or int(branch) < RENAMED
    found = re.search(r"(?:nvidia|cuda-drivers)-(?:[a-z][a-z0-9]*-)*([0-9]{3}(?:-server)?)(?:-|$)", name)
    if not found:
        return numbered and bool(WITHOUT_BRANCH.match(name))
    return not numbered or found.group(1) != branch + ("" if graphics or source == "nvidia" else "-server")


def kernel_flavour(release: str, architecture: str) -> str:
    """What follows the version in a kernel's release: generic in 6.8.0-85-generic, cloud-amd64 in 6.12.43+deb13-cloud-amd64."""
    match = re.search(r"(?:-|\+deb\d+-)([a-z][a-z0-9]*(?:-[a-z0-9]+)*)$", release)
    return match.group(1) if match else architecture

