# SPDX-License-Identifier: Apache-2.0
"""Reads what driver_plan needs to know of the host itself: its kernels, its driver packages, what its apt offers."""

import os
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..apt.packages import gather
from ..facts import dpkg as packages
from ..facts.kernels import kernels
from ..host.files import HostFiles
from ..host.run import Run
from . import mok
from . import package_names as names
from . import setup as driver_setup
from .rules import Host

UNLIKE = ("libcuda1", "libcudadebugger1")  # of the driver, though not named like it
# NVIDIA's own packages for Debian depend on some of contrib.
NEEDED = {"distribution": ("contrib", "non-free", "non-free-firmware"), "nvidia": ("contrib",)}


class Component(NamedTuple):
    """A line of `apt-get indextargets`: one component of one suite of one repository."""

    origin: str
    uri: str
    suite: str
    component: str
    signed_by: str
    entry: str


def driver_kernels(files: HostFiles) -> List[Tuple[str, bool]]:
    """The running kernel and the newest one, with whether their headers are there; the newest last."""
    found = {kernel["release"]: bool(kernel["headers"]) for kernel in kernels(files, files.word("/proc/sys/kernel/osrelease"))}
    running = files.word("/proc/sys/kernel/osrelease")
    newest = sorted(found, key=lambda release: [int(part) for part in re.findall(r"\d+", release)])[-1:]
    chosen = [release for release in found if release == running and release not in newest] + newest
    return [(release, found[release]) for release in chosen]


def image_packages(files: HostFiles, releases: List[str], architecture: str) -> Tuple[str, ...]:
    """The installed meta packages that bring new kernels of the flavours of `releases`, as linux-image-generic-hwe-24.04."""
    flavours = "|".join(re.escape(names.kernel_flavour(release, architecture)) for release in releases)
    pattern = fr"^Package: (linux-image-(?:{flavours})(?:-(?:hwe|lts|edge|[0-9]+\.[0-9]+))*)\nStatus: [a-z]+ ok installed$"
    status = files.raw(packages.STATUS, 64 * 1024 * 1024) or b""
    return tuple(name.decode() for name in re.findall(pattern.encode(), status, re.M)) if releases else ()


def candidates(distribution: str, architecture: str, releases: List[str], images: Tuple[str, ...], installed: List[str],
               branches: List[str]) -> List[str]:
    """Every package about which apt is asked: one question costs less than several."""
    wanted = ["linux-headers-" + release for release in releases] + installed
    flavours = names.kernel_lines(releases, images, architecture)
    for flavour in ("open", "proprietary"):
        for graphics in (False, True):
            sets = [names.of_debian(flavour, graphics), names.of_nvidia_for_debian(flavour, graphics)] if distribution == "Debian" else []
            for branch in branches if distribution == "Ubuntu" else []:
                sets.append(names.of_ubuntu(flavour, graphics, branch, releases, flavours))
                sets.append(names.of_nvidia_for_ubuntu(flavour, graphics, branch))
            wanted += [name for one in sets for name in one.set + one.others]
    for branch in branches:
        wanted += names.fabric_manager("nvidia", branch) + names.fabric_manager("ubuntu", branch) + ["nvidia-driver-pinning-" + branch]
    return sorted(set(wanted))


def offered(run: Run, wanted: List[str]) -> Dict[str, List[str]]:
    """The versions of each package that apt can install, newest first."""
    _, out, _ = run(["apt-cache", "madison"] + wanted)
    found: Dict[str, List[str]] = {}
    for line in out.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and not fields[2].endswith("Sources") and fields[1] not in found.setdefault(fields[0], []):
            found[fields[0]].append(fields[1])
    return found


def booted_since(files: HostFiles, releases: List[str]) -> bool:
    """Whether the host has booted since the driver was last changed: what it lacks now, another reboot does not bring either."""
    booted = re.search(r"^btime ([0-9]+)$", files.text("/proc/stat", 1 << 22) or "", re.M)
    written = []
    for path in [driver_setup.PATHS["blacklist"], driver_setup.PATHS["known"]] + [f"/lib/modules/{one}/modules.dep" for one in releases]:
        try:
            written.append(os.path.getmtime(os.path.join(files.root, path.lstrip("/"))))
        except OSError:
            continue
    return bool(booted and written and int(booted.group(1)) > max(written))


def read(run: Run, files: HostFiles, distribution: str, version: str, architecture: str, branches: List[str]) -> Host:
    installed = {name: package.version for name, package in packages.installed(files).items() if name != "nvidia-l4t-core"}
    installed.update(gather(run, list(UNLIKE), []).installed)
    found = driver_kernels(files)
    releases = [release for release, _there in found]
    images = image_packages(files, releases, architecture)
    wanted = candidates(distribution, architecture, releases, images, sorted(installed), branches)
    # The blacklist comes last: a run that was cut off before it has left the file that keeps the other source out.
    ours = any(files.exists(driver_setup.PATHS[name]) for name in ("blacklist", "preferences"))
    return Host(distribution, version, architecture, found, installed, offered(run, wanted), mok.find(run, files)[0], images, ours,
                tuple(packages.halves(files)))


def components(run: Run) -> List[Component]:
    form = "|".join(f"$({field})" for field in ("ORIGIN", "REPO_URI", "RELEASE", "COMPONENT", "SIGNED_BY", "SOURCESENTRY"))
    _, out, _ = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    lines = [line.split("|") for line in out.splitlines() if line.count("|") == 5]
    # apt leaves a field that it does not know as it stands.
    return [Component(*["" if field.startswith("$(") else field for field in fields]) for fields in lines]


def debian_source(found: List[Component], codename: str, source: Optional[str]) -> str:
    """A deb822 source with the components that a driver of `source` needs and the host's own sources of Debian lack; empty if none.

    It names the host's own mirror and key: apt refuses a repository that has two keys.
    """
    theirs = [one for one in found if not one.entry.startswith(driver_setup.PATHS["components"])]
    suites = (codename, codename + "-updates", codename + "-security")
    stanzas = []
    for main in theirs:
        if main.origin != "Debian" or main.component != "main" or main.suite not in suites:
            continue
        have = {one.component for one in theirs if (one.uri, one.suite) == (main.uri, main.suite)}
        lacking = [name for name in NEEDED.get(source or "", ()) if name not in have]
        lines = ["Types: deb", "URIs: " + main.uri, "Suites: " + main.suite, "Components: " + " ".join(lacking)]
        stanza = "\n".join(lines + (["Signed-By: " + main.signed_by] if main.signed_by else [])) + "\n"
        if lacking and stanza not in stanzas:
            stanzas.append(stanza)
    return "# Managed by Forja: changes made here are lost.\n" + "\n".join(stanzas) if stanzas else ""
