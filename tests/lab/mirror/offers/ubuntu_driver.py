"""Ubuntu 24.04's component restricted, as far as NVIDIA's driver goes: the names, versions and dependencies of Canonical's, and no driver.

Of the dependencies those are here that tie the set together. The kernel is a stand-in as well: the files by which programs know that one
is installed. Its module is a file with the path of the true one.
"""

import os
import shutil
from pathlib import Path

from apt_archive import Run, forget_key, make_key, package, sign
from mirror import Mirror

KERNEL, KERNEL_VERSION = "6.8.0-85-generic", "6.8.0-85.85"
BRANCHES = {"595": "595.71.05", "580": "580.126.20"}
MAINTAINER = "Ubuntu Core Developers <ubuntu-devel-discuss@lists.ubuntu.com>"
# Started by udev where a GPU appears, so it has nothing to be enabled by.
UNIT = """[Unit]
Description=Stand-in of the Forja lab for nvidia-persistenced
[Service]
ExecStart=/bin/sleep infinity
"""


def driver(branch: str) -> dict[str, str]:
    """Package -> dependencies of a branch for data centers; {v} is the version of all of them."""
    server = branch + "-server"
    return {
        f"libnvidia-compute-{server}": "",
        f"nvidia-kernel-common-{server}": "",
        f"nvidia-utils-{server}": f"libnvidia-compute-{server} (= {{v}})",
        f"nvidia-compute-utils-{server}": f"adduser, libnvidia-compute-{server} (= {{v}})",
        f"nvidia-kernel-source-{server}-open": "",
        f"nvidia-headless-no-dkms-{server}-open": f"libnvidia-compute-{server} (= {{v}}), nvidia-compute-utils-{server} (= {{v}}), "
        f"nvidia-kernel-common-{server} (= {{v}}), nvidia-kernel-source-{server}-open (= {{v}})",
        f"nvidia-fabricmanager-{branch}": "",
        f"libnvidia-nscq-{branch}": "",
    }


def packages(run: Run, architecture: str) -> None:
    def make(name: str, version: str, depends: str, files: dict[str, str] | None = None) -> None:
        package(run, name, version, architecture, {"Maintainer": MAINTAINER, "Depends": depends}, files or {})

    make(f"linux-image-{KERNEL}", KERNEL_VERSION, "", {f"boot/vmlinuz-{KERNEL}": "", f"usr/lib/modules/{KERNEL}/kernel/.standin": ""})
    make(f"linux-signatures-nvidia-{KERNEL}", f"{KERNEL_VERSION}+1", f"linux-image-{KERNEL}")
    for branch, release in BRANCHES.items():
        version, series = f"{release}-0ubuntu0.24.04.1", f"{branch}-server-open"
        for name, depends in driver(branch).items():
            unit = {"usr/lib/systemd/system/nvidia-persistenced.service": UNIT} if name.startswith("nvidia-compute-utils") else {}
            make(name, version, depends.format(v=version), unit)
        common = f"nvidia-kernel-common-{branch}-server"
        make(f"linux-objects-nvidia-{series}-{KERNEL}", f"{KERNEL_VERSION}+1", f"linux-image-{KERNEL}")
        make(f"linux-modules-nvidia-{series}-{KERNEL}", f"{KERNEL_VERSION}+1",
             f"linux-image-{KERNEL}, linux-signatures-nvidia-{KERNEL} (= {KERNEL_VERSION}+1), linux-objects-nvidia-{series}-{KERNEL} "
             f"(= {KERNEL_VERSION}+1), {common} (<= {release}-1), {common} (>= {release})",
             {f"usr/lib/modules/{KERNEL}/kernel/nvidia-{series}/nvidia.ko": "stand-in of the Forja lab\n"})
        make(f"linux-modules-nvidia-{series}-generic", f"{KERNEL_VERSION}+1",
             f"linux-modules-nvidia-{series}-{KERNEL} (= {KERNEL_VERSION}+1)")


def make(mirror: Mirror) -> dict[str, object]:
    """The key is at archive.ubuntu.com/ubuntu/key.asc: a host with Ubuntu has that already."""
    run, architecture = mirror.run, mirror.architecture
    root = mirror.web / "archive.ubuntu.com/ubuntu"
    pool, suite = root / "pool/restricted", root / "dists/noble"
    index = suite / f"restricted/binary-{architecture}"
    for folder in (pool, index):
        folder.mkdir(parents=True)
    os.chdir(pool)
    packages(run, architecture)
    os.chdir("/")
    key = make_key(run, Path("/build-ubuntu"), "ubuntu")
    (index / "Packages").write_text(run("apt-ftparchive", "packages", "pool/restricted", cwd=root))
    sign(run, suite, {"Origin": "Ubuntu", "Label": "Ubuntu (Forja lab stand-in)", "Suite": "noble", "Codename": "noble", "Version": "24.04",
                      "Architectures": architecture, "Components": "restricted"})
    (root / "key.asc").write_text(key.armored)
    forget_key(run)
    shutil.rmtree("/build-ubuntu")
    return {}
