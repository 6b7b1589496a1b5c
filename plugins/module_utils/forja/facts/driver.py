# SPDX-License-Identifier: Apache-2.0
"""The NVIDIA driver of a host from its files: what is installed, what is loaded, whether they agree, where it came from."""

import re
from typing import Any, Dict, List, Optional, Tuple

from ..host.files import HostFiles
from . import boot as boot_state
from . import dpkg as packages
from .kernels import kernels, newest
from .platform import WSL_LIBRARIES, kernel_release

LIBRARY_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/aarch64-linux-gnu/nvidia",
    "/usr/lib/aarch64-linux-gnu/tegra",
    "/usr/lib",
)
APT_LISTS = "/var/lib/apt/lists"
_CUDA = "developer.download.nvidia.com/compute/cuda/repos"
_LIBRARY = re.compile(r"\.so\.(\d+\.\d+(?:\.\d+)*)$")
_NVRM = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", re.M)
# Packages that bring the driver itself. Not those beside it that are called alike: they are there without a driver too.
_LIBRARY_PACKAGE = r"libnvidia-(compute|ml1)"
_MODULE_PACKAGE = r"nvidia-(driver(?!-(pinning|assistant))|dkms|kernel(?!-common)|open(?!cl)|headless)|linux-modules-nvidia|cuda-drivers"
_CARRIER = re.compile(f"{_LIBRARY_PACKAGE}|{_MODULE_PACKAGE}")


def read(files: HostFiles, platform_kind: str, gpus: List[Dict[str, Any]], found: Dict[str, packages.Package]) -> Dict[str, Any]:
    """The `driver` record; `found` are the installed packages."""
    running = kernel_release(files)
    loaded, loaded_flavour = _loaded(files)
    library, library_path = _library(files, wsl=platform_kind in ("wsl1", "wsl2"))
    # WSL and containers have no kernel of their own, nor anything to boot; packages in them ask for a reboot all the same.
    inside = platform_kind in ("wsl1", "wsl2", "container")
    per_kernel = [] if inside else kernels(files, running)
    here = next((kernel for kernel in per_kernel if kernel["running"]), None)
    driver_packages = {name: package for name, package in found.items() if name != "nvidia-l4t-core"}
    module = here["version"] if here and here["module"] else None
    installed = module or _package_version(driver_packages) or library
    reasons = [] if inside else _reboot_reasons(files, loaded, library, module, gpus, bool(installed))
    return {
        "installed_version": installed,
        "loaded_version": loaded,
        "library_version": library,
        "library_path": library_path,
        "flavour": loaded_flavour or (here or {}).get("flavour") or _package_flavour(driver_packages),
        "source": _source(files, platform_kind, driver_packages, library_path, found),
        "mismatch": bool(loaded and library and loaded != library),
        "packages": {name: package.version for name, package in sorted(driver_packages.items())},
        "kernels": per_kernel,
        "kernel_headers": here["headers"] if here else None,
        "rocm_version": files.word("/opt/rocm/.info/version"),
        "reboot_required": bool(reasons),
        "reboot_reasons": reasons,
    }


def problems(driver: Dict[str, Any], platform_kind: str, files: HostFiles) -> List[Tuple[str, str]]:
    """What a person should do about the driver, as pairs of a name and a sentence."""
    found: List[Tuple[str, str]] = []
    if driver["mismatch"]:
        found.append(
            (
                "driver_mismatch",
                f"The kernel has NVIDIA {driver['loaded_version']} loaded while the libraries are {driver['library_version']}: "
                "reboot, or stop all users of the GPUs and reload "
                "the modules.",
            )
        )
    if platform_kind == "wsl2":
        for folder in LIBRARY_FOLDERS:
            if files.exists(folder + "/libnvidia-ml.so.1"):
                found.append(
                    (
                        "wsl_shadowed_library",
                        f"{folder}/libnvidia-ml.so.1 hides the driver that Windows provides in {WSL_LIBRARIES}: remove the Linux "
                        "driver packages.",
                    )
                )
    # An old kernel that is left for the worst case need not have the driver.
    last = newest(driver["kernels"])
    for kernel in driver["kernels"]:
        if (kernel["running"] or kernel is last) and kernel["dkms"] in ("added", "built") and driver["installed_version"]:
            found.append(
                (
                    "dkms_not_installed",
                    f"DKMS has NVIDIA {kernel['dkms_version']} only as '{kernel['dkms']}' for kernel {kernel['release']}: install "
                    "that kernel's headers and run dkms autoinstall.",
                )
            )
    return found


def _loaded(files: HostFiles) -> Tuple[Optional[str], Optional[str]]:
    banner = files.text("/proc/driver/nvidia/version", 4096) or ""
    match = _NVRM.search(banner)
    version = files.word("/sys/module/nvidia/version") or (match.group(1) if match else None)
    flavour = None
    if match:
        flavour = "open" if "Open Kernel Module" in banner.split("\n")[0] else "proprietary"
    return version, flavour


def _library(files: HostFiles, wsl: bool) -> Tuple[Optional[str], Optional[str]]:
    """Version and real path of libnvidia-ml.so.1. WSL's has no version in its name: the driver is that of Windows."""
    for folder in (WSL_LIBRARIES,) if wsl else LIBRARY_FOLDERS:
        path = folder + "/libnvidia-ml.so.1"
        if files.exists(path):
            real = files.resolve(path)
            match = _LIBRARY.search(real)
            return (match.group(1) if match else None), real
    return None, None


def _package_version(found: Dict[str, packages.Package]) -> Optional[str]:
    versions = [packages.upstream_version(package.version) for name, package in sorted(found.items()) if _CARRIER.match(name)]
    real = [version for version in versions if re.match(r"\d{3}\.\d+", version)]
    return real[0] if real else None


def _package_flavour(found: Dict[str, packages.Package]) -> Optional[str]:
    names = [name for name in found if re.match(_MODULE_PACKAGE, name)]
    if not names:
        return None
    return "open" if any("open" in name for name in names) else "proprietary"


def _source(
    files: HostFiles, kind: str, drivers: Dict[str, packages.Package], library: Optional[str], found: Dict[str, packages.Package]
) -> Optional[str]:
    """Where the driver came from. dpkg does not record the repository: maintainer, version suffix and apt's lists tell it."""
    if kind in ("wsl1", "wsl2"):
        return "wsl" if library else None
    if "nvidia-l4t-core" in found or files.exists("/etc/nv_tegra_release"):
        return "l4t"
    carriers = {name: package for name, package in drivers.items() if _CARRIER.match(name)}
    if carriers:
        if any("nvidia.com" in package.maintainer.lower() for package in carriers.values()):
            return "nvidia_repository"
        # Canonical's updates to a release carry its number; NVIDIA's own builds for Ubuntu end in -0ubuntu1 or -1ubuntu1.
        if any(re.search(r"ubuntu\d+\.\d\d\.\d\d|~deb\d+|\.\d\d\.\d\d\.\d+$", package.version) for package in carriers.values()):
            return "distribution"
        # Somebody may have NVIDIA's repository for CUDA alone.
        return "nvidia_repository" if _has_cuda_repository(files) and _listed(files, carriers) is not False else "distribution"
    if files.exists("/usr/bin/nvidia-uninstall") or files.exists("/usr/bin/nvidia-installer"):
        return "run"
    if library and _has_cuda_repository(files):
        return "nvidia_repository"
    return None


def _has_cuda_repository(files: HostFiles) -> bool:
    places = [("/etc/apt/sources.list.d", (".list", ".sources")), ("/etc/yum.repos.d", (".repo",))]
    for folder, endings in places:
        for name in files.names(folder):
            text = files.text(f"{folder}/{name}") if name.endswith(endings) else None
            if _CUDA in (text or ""):
                return True
    return False


def _listed(files: HostFiles, carriers: Dict[str, packages.Package]) -> Optional[bool]:
    """Whether NVIDIA's repository offers one of these packages in this version; None when apt has no list of it that can be read."""
    seen = None
    for name in files.names(APT_LISTS):
        if _CUDA.replace("/", "_") not in name or not name.endswith("_Packages"):
            continue
        seen = False
        text = files.raw(f"{APT_LISTS}/{name}", 16 * 1024 * 1024) or b""
        for package, known in carriers.items():
            pair = (re.escape(package.encode()), re.escape(known.version.encode()))
            if re.search(rb"^Package: %s\n(?:[^\n]+\n)*?Version: %s\n" % pair, text, re.M):
                return True
    return seen


def _reboot_reasons(
    files: HostFiles, loaded: Optional[str], library: Optional[str], module: Optional[str], gpus: List[Dict[str, Any]], installed: bool
) -> List[str]:
    reasons: List[str] = []
    if loaded and library and loaded != library:
        reasons.append(f"the loaded module is {loaded}, the libraries are {library}")
    if loaded and module and loaded != module:
        reasons.append(f"the loaded module is {loaded}, the one on disk is {module}")
    taken = [str(gpu["address"]) for gpu in gpus if gpu["vendor"] == "nvidia" and gpu["driver"] in boot_state.NOUVEAU_DRIVERS]
    if installed and taken:
        reasons.append(f"nouveau still holds {', '.join(taken)} although the NVIDIA driver is installed")
    for path in ("/run/reboot-required", "/var/run/reboot-required"):
        if files.exists(path):
            names = sorted(set((files.text("/run/reboot-required.pkgs") or "").split()))
            reasons.append("the system asks for it" + (f" because of {', '.join(names[:8])}" if names else ""))
            break
    return reasons
