# SPDX-License-Identifier: Apache-2.0
"""What belongs to a driver besides its packages (apt's files, holds, modules, daemons, the blacklist), and what of it a host lacks."""

from typing import Any, Dict, List, NamedTuple

from ..apt import hold as apt_hold
from ..apt import packages as apt_packages
from ..apt import repository as apt_repository
from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Run
from ..systemd import dropin
from ..systemd import paths as unit_paths
from . import dkms, grid, modprobe
from . import package_names as names
from .plan import Decision

MODPROBE = modprobe.Place("forja-nvidia-driver")
# The files of the role by what they are for.
PATHS = {
    "components": "/etc/apt/sources.list.d/forja-nvidia-driver.sources",
    "preferences": "/etc/apt/preferences.d/forja-nvidia-driver",
    "unattended": "/etc/apt/apt.conf.d/52forja-nvidia-driver",
    "blacklist": MODPROBE.file,
    "known": MODPROBE.known,
}
PERSISTENCED, FABRIC_MANAGER = "nvidia-persistenced.service", "nvidia-fabricmanager.service"

BLACKLIST = """# Managed by Forja: changes made here are lost.
# nouveau and nova take the GPUs that NVIDIA's driver wants.
blacklist nouveau
blacklist nova_core
options nouveau modeset=0
"""
PREFERENCES = """# Managed by Forja: changes made here are lost.
# The driver of this host is from one source; with packages of another it would not load.
Package: libnvidia-container* nvidia-container-* nvidia-cuda-* libnvidia-egl-*
Pin: release o={rival}
Pin-Priority: 500

Package: cuda-drivers* firmware-nvidia-gsp libcuda1 libnvidia-* linux-modules-nvidia-* nvidia-compute-utils-* nvidia-dkms-* nvidia-driver*
  nvidia-fabricmanager* nvidia-headless-* nvidia-kernel-dkms nvidia-kernel-open-dkms nvidia-open nvidia-open-* nvidia-persistenced
  nvidia-smi nvidia-utils-*
Pin: release o={rival}
Pin-Priority: -1
"""
# unattended-upgrades matches expressions from the beginning of a name; they are those of SET and OTHERS in driver_packages.
UNATTENDED = """// Managed by Forja: changes made here are lost.
// Libraries of another version than the loaded module make every program fail until the next reboot.
Unattended-Upgrade::Package-Blacklist {
  "cuda-drivers";
  "firmware-nvidia-(?!graphics)";
  "libcuda(1|debugger1)$";
  "libnv(cuvid|optix)1$";
  "libnvidia-(?!container)";
  "nvidia-(?!container-|cuda|docker|driver-pinning-|fs|gds|nsight|profiler|vaapi-driver|visual-profiler)";
  "xserver-xorg-video-nvidia";
};
"""


class Wanted(NamedTuple):
    """What the decision leaves open."""

    distribution: str
    architecture: str  # as dpkg calls it
    debian_source: str
    repository: Dict[str, Any]  # uri, key_fingerprint, key_sha256, replaces
    persistence: bool


def grid_installed(files: HostFiles, decision: Decision, wanted: Wanted) -> bool:
    """Whether Microsoft's installer ran to its end: then its file is gone."""
    return grid.installed(files, decision.version, _machine(wanted))


def _machine(wanted: Wanted) -> str:
    """The kernel's word for the architecture."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(wanted.architecture, wanted.architecture)


def persistence(decision: Decision, wanted: Wanted) -> Dict[str, Any]:
    """Settings of the persistence daemon, which runs as its own user, as the packages make it."""
    debians = wanted.distribution == "Debian" and decision.source == "distribution"
    command = f"/usr/bin/nvidia-persistenced --user {'nvpd' if debians else 'nvidia-persistenced'} --persistence-mode"
    # Before the first reboot, and where the GPU is away, there is nothing to keep initialised: that is no failure.
    return {"Unit": {"ConditionPathExists": "/proc/driver/nvidia/version"}, "Service": {"ExecStart": ["", command]}}


def services(decision: Decision, wanted: Wanted) -> Dict[str, bool]:
    """Return the driver's units, and whether they start at boot. The GRID build brings none."""
    if decision.action != "install" or decision.source == "grid":
        return {}
    return {PERSISTENCED: wanted.persistence, **({FABRIC_MANAGER: True} if decision.fabric_manager else {})}


def contents(decision: Decision, wanted: Wanted, has_initramfs: bool) -> Dict[str, Dict[str, str]]:
    """Path and content of the files that the decision needs or takes away, by their names in PATHS."""
    if decision.action == "remove":
        return {name: {"path": path, "content": ""} for name, path in PATHS.items()}
    texts = {"blacklist": BLACKLIST}
    if has_initramfs:
        texts["known"] = BLACKLIST
    if decision.source != "grid":
        rival = "NVIDIA" if decision.source == "distribution" else wanted.distribution
        texts.update(preferences=PREFERENCES.format(rival=rival), unattended=UNATTENDED)
        if wanted.distribution == "Debian":
            texts["components"] = wanted.debian_source
    return {name: {"path": PATHS[name], "content": text} for name, text in texts.items()}


def former(wanted: Wanted) -> Dict[str, Any]:
    """What a change that fails puts back: path -> content, or None, of what apt reads."""
    found = apt_repository.gather(_repository(wanted))
    found.update((path, atomic_file.read(path)) for path in (PATHS["components"], PATHS["preferences"]))
    return {path: None if content is None else content.decode("utf-8", "replace") for path, content in found.items()}


def steps(run: Run, files: HostFiles, decision: Decision, wanted: Wanted, mok: str) -> List[str]:
    """Everything that is left to do, in words; nothing when an earlier run did all of it and nobody undid any."""
    if decision.action == "install":
        return _lacking(run, files, decision, wanted)
    if decision.action == "remove":
        return _remains(files, decision, wanted)
    return ["ask the firmware to enrol a key"] if decision.action == "stage_mok" and mok == "missing" else []


def _remains(files: HostFiles, decision: Decision, wanted: Wanted) -> List[str]:
    repository = _repository(wanted)
    paths = [*PATHS.values(), repository.source, repository.key, _dropin(decision, wanted).path, grid.UNINSTALLER]
    return ["remove " + name for name in decision.absent + [path for path in paths if files.exists(path)]]


def _lacking(run: Run, files: HostFiles, decision: Decision, wanted: Wanted) -> List[str]:
    present = [apt_packages.wanted(item) for item in decision.before + decision.packages]
    absent = decision.absent + decision.absent_before
    state = apt_packages.gather(run, [item.name for item in present] + absent, files.names("/var/lib/dpkg/updates"))
    found = list(apt_packages.plan(state, present, absent).steps)
    if decision.dkms:
        found += dkms.steps(dkms.plan(dkms.gather(files, names.DKMS), decision.kernels))
    for _name, file in sorted(contents(decision, wanted, bool(modprobe.rebuild_command(files))).items()):
        if files.raw(file["path"], 1 << 20) != file["content"].encode():
            found.append("write " + file["path"])
    return found + (_lacking_of_grid if decision.source == "grid" else _lacking_of_packages)(run, files, decision, wanted)


def _lacking_of_grid(_run: Run, files: HostFiles, decision: Decision, wanted: Wanted) -> List[str]:
    version = decision.version or ""
    return grid.plan(grid.gather(files, version, _machine(wanted)), grid.Request(version, decision.flavour or "open"))


def _lacking_of_packages(run: Run, files: HostFiles, decision: Decision, wanted: Wanted) -> List[str]:
    loose = apt_hold.plan(apt_hold.gather(run), list(names.SET), list(names.OTHERS), True)
    found = ["hold " + ", ".join(loose)] if loose else []
    found += _sources(decision, wanted)
    goal = _dropin(decision, wanted)
    if files.text(goal.path) != (goal.text if wanted.persistence else None):
        found.append("set up " + PERSISTENCED)
    for unit, enabled in sorted(services(decision, wanted).items()):
        if (run(["systemctl", "is-enabled", unit])[0] == 0) is not enabled:
            found.append(f"{'enable' if enabled else 'disable'} {unit}")
    return found


def _sources(decision: Decision, wanted: Wanted) -> List[str]:
    repository = _repository(wanted)
    current = apt_repository.gather(repository)
    if decision.source != "nvidia":
        return [] if current[repository.source] is None else ["remove " + repository.source]
    key = current[repository.key]
    try:
        if not apt_repository.equivalent(current, repository):
            apt_repository.check_key(key or b"", repository.accepted, wanted.repository["key_sha256"], repository.key)
        target = apt_repository.desired(current, repository, key)
    except ForjaError:
        return ["add NVIDIA's repository"]
    return apt_repository.plan(current, target)


def _repository(wanted: Wanted) -> apt_repository.Repository:
    ours = wanted.repository
    accepted = [ours["key_fingerprint"]]
    return apt_repository.Repository("nvidia-driver", ours["uri"], ["/"], [], wanted.architecture, ours["replaces"], accepted)


def _dropin(decision: Decision, wanted: Wanted) -> dropin.Want:
    place = unit_paths.place("system", "/", 0, 0, "/")
    return dropin.want(place, PERSISTENCED, "forja", None, persistence(decision, wanted), {}, True, True, False)
