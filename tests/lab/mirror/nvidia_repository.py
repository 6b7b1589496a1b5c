"""NVIDIA's CUDA repository for Debian, with packages of the driver under their true names, versions and dependencies, and no content.

Two things in them are real, because roles act on them: the pin of nvidia-driver-pinning-*, and the units of the two daemons, which sleep.
Microsoft's GRID build is here too: an installer that leaves behind what the true one does, and no driver.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

RELEASES = ("580.95.05", "580.126.20", "595.58.03", "595.71.05", "615.71.09")
LAST_PROPRIETARY = 610
DISTRIBUTIONS = ("debian12", "debian13")
MACHINES = {"amd64": "x86_64", "arm64": "sbsa"}
GRID = "595.58.03"
PIN = "Package: cuda-drivers* firmware-nvidia-gsp libcuda1 libnvidia-* nvidia-*\nPin: version {}\nPin-Priority: 1000\n"
UNIT = """[Unit]
Description=Stand-in of the Forja lab for {0}
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""
# What each package needs in its own version; the open flavour and the proprietary one exclude each other.
TREE = {
    "firmware-nvidia-gsp": "",
    "libcuda1": "",
    "libnvidia-ml1": "",
    "nvidia-modprobe": "",
    "nvidia-persistenced": "adduser",
    "nvidia-kernel-support": "nvidia-modprobe (= {v})",
    "nvidia-kernel-open-dkms": "dkms, firmware-nvidia-gsp (= {v}), nvidia-kernel-support (= {v})",
    "nvidia-kernel-dkms": "dkms, firmware-nvidia-gsp (= {v}), nvidia-kernel-support (= {v})",
    "nvidia-driver-cuda": "libcuda1 (= {v}), libnvidia-ml1 (= {v}), nvidia-kernel-open-dkms (= {v}) | nvidia-kernel-dkms (= {v})",
    "nvidia-driver-open": "nvidia-driver-cuda (= {v}), nvidia-kernel-open-dkms (= {v})",
    "nvidia-driver": "nvidia-driver-cuda (= {v}), nvidia-kernel-dkms (= {v})",
    # At least, not exactly: without a pin apt takes the newest branch.
    "nvidia-open": "nvidia-driver-open (>= {v})",
    "cuda-drivers": "nvidia-driver (>= {v})",
    "nvidia-fabricmanager": "",
    "libnvidia-nscq": "",
}
RIVALS = {"nvidia-kernel-open-dkms": "nvidia-kernel-dkms", "nvidia-kernel-dkms": "nvidia-kernel-open-dkms"}
DAEMONS = ("nvidia-persistenced", "nvidia-fabricmanager")
PROPRIETARY = ("nvidia-kernel-dkms", "nvidia-driver", "cuda-drivers")
INSTALLER = """#!/bin/sh
# Stand-in of the Forja lab for Microsoft's GRID build {0}: it leaves files of the same names, and no driver.
set -e
library=/usr/lib/$(uname -m)-linux-gnu
echo "stand-in: $*" > /var/log/nvidia-installer.log
mkdir -p /etc/nvidia
printf '%s\\n' 'ServerAddress=' 'FeatureType=0' '#IgnoreSP=TRUE' > /etc/nvidia/gridd.conf.template
printf '%s\\n' '#!/bin/sh' "rm -f $library/libnvidia-ml.so.{0} /usr/bin/nvidia-uninstall" > /usr/bin/nvidia-uninstall
chmod 0755 /usr/bin/nvidia-uninstall
touch "$library/libnvidia-ml.so.{0}"
"""

Run = Callable[..., str]


def package(run: Run, name: str, version: str, architecture: str, fields: dict[str, str], files: dict[str, str]) -> None:
    tree = Path(f"{name}_{version}")
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
    (tree / "DEBIAN").mkdir(parents=True, mode=0o755)
    if name == "nvidia-persistenced":  # Debian's way: a service runs once it is installed, where its conditions allow
        (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nset -e\nsystemctl enable --now nvidia-persistenced.service || true\n")
        (tree / "DEBIAN/postinst").chmod(0o755)
    control = {"Package": name, "Version": version, "Architecture": architecture, "Maintainer": "cudatools <cudatools@nvidia.com>",
               **fields, "Description": f"stand-in of the Forja lab: nothing under the name {name}"}
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items() if value))
    run("dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), f"{tree}_{architecture}.deb")
    shutil.rmtree(tree)


def packages(run: Run, architecture: str) -> None:
    for release in RELEASES:
        version = f"{release}-1"
        for name, depends in TREE.items():
            if name in PROPRIETARY and int(release.split(".")[0]) > LAST_PROPRIETARY:
                continue
            unit = {f"usr/lib/systemd/system/{name}.service": UNIT.format(name)} if name in DAEMONS else {}
            package(run, name, version, architecture, {"Depends": depends.format(v=version), "Conflicts": RIVALS.get(name, "")}, unit)
        package(run, f"nvidia-driver-pinning-{release}", version, "all", PINNING, pin(f"{release}-1"))
    for branch in sorted({release.split(".")[0] for release in RELEASES}):
        package(run, f"nvidia-driver-pinning-{branch}", f"{branch}-1", "all", PINNING, pin(f"{branch}.*"))


PINNING = {"Provides": "nvidia-driver-pinning", "Conflicts": "nvidia-driver-pinning", "Replaces": "nvidia-driver-pinning"}


def pin(version: str) -> dict[str, str]:
    return {"etc/apt/preferences.d/nvidia-driver-pin": PIN.format(version)}


def make(run: Run, web: Path, architecture: str) -> dict[str, object]:
    """Publishes all of it below `web`; returns what a site's inventory states about it."""
    build = Path("/build-nvidia")
    build.mkdir()
    os.chdir(build)
    packages(run, architecture)
    os.environ["GNUPGHOME"] = str(build / "gnupg")
    (build / "gnupg").mkdir(mode=0o700)
    run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Forja lab nvidia <nvidia@forja.test>", "rsa3072", "sign", "never")
    key = run("gpg", "--armor", "--export")
    for distribution in DISTRIBUTIONS:
        root = web / f"developer.download.nvidia.com/compute/cuda/repos/{distribution}/{MACHINES.get(architecture, architecture)}"
        root.mkdir(parents=True)
        for file in build.glob("*.deb"):
            shutil.copy(file, root)
        (root / "Packages").write_text(run("apt-ftparchive", "packages", ".", cwd=root))
        names = {"Origin": "NVIDIA", "Label": "NVIDIA CUDA", "Architectures": architecture}
        release = run("apt-ftparchive", *(f"-oAPT::FTPArchive::Release::{k}={v}" for k, v in names.items()), "release", ".", cwd=root)
        (root / "Release").write_text(release)
        run("gpg", "--batch", "--clearsign", "--output", "InRelease", "Release", cwd=root)
        for name in ("3bf863cc.pub", "8793F200.pub"):
            (root / name).write_text(key)
    fingerprint = re.search(r"^fpr:::::::::(\w+):", run("gpg", "--with-colons", "--list-keys"), re.M)
    assert fingerprint is not None
    run("gpgconf", "--kill", "gpg-agent")
    os.chdir("/")
    shutil.rmtree(build)
    return {"nvidia_driver_apt_key_fingerprint": fingerprint[1], "nvidia_driver_grid_releases": make_grid(web)}


def make_grid(web: Path) -> dict[str, dict[str, str]]:
    """The installer below its upstream's address, and its entry for nvidia_driver_grid_releases."""
    path = f"download.microsoft.com/download/standin/NVIDIA-Linux-x86_64-{GRID}-grid-azure.run"
    file = web / path
    file.parent.mkdir(parents=True)
    file.write_text(INSTALLER.format(GRID))
    return {GRID: {"url": f"https://{path}", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}
