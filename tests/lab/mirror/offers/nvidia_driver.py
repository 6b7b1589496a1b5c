"""NVIDIA's CUDA repository for Debian, with packages of the driver under their true names, versions and dependencies, and no driver.

Three things in them are real, because roles act on them: the pin of nvidia-driver-pinning-*, the units of the two daemons, which sleep,
and a kernel module of one line, which DKMS builds as it builds the true one; that of the release BROKEN does not compile.
Microsoft's GRID build is here too: an installer that leaves behind what the true one does, and no driver.
"""

import hashlib
import os
import shutil
from pathlib import Path

from apt_archive import Run, forget_key, make_key, package, sign
from mirror import Mirror

MAINTAINER = "cudatools <cudatools@nvidia.com>"
BROKEN = "610.57.04"
RELEASES = ("580.95.05", "580.126.20", "595.58.03", "595.71.05", BROKEN, "615.71.09")
LAST_PROPRIETARY = 610
DISTRIBUTIONS = ("debian12", "debian13")
MACHINES = {"amd64": "x86_64", "arm64": "sbsa"}
GRID = ("570.195.03", "595.58.03")
PIN = "Package: cuda-drivers* firmware-nvidia-gsp libcuda1 libnvidia-* nvidia-*\nPin: version {}\nPin-Priority: 1000\n"
UNIT = """[Unit]
Description=Stand-in of the Forja lab for {0}
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""
# The source that DKMS builds, and how packages hand it to DKMS: with the scripts that Debian's dh_dkms writes.
SOURCE = {
    "dkms.conf": """PACKAGE_NAME="nvidia"
PACKAGE_VERSION="{0}"
BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make"
CLEAN="make clean"
AUTOINSTALL="yes"
""",
    "Makefile": "nvidia.ko: nvidia.c\n\t$(CC) -c -o $@ $<\nclean:\n\trm -f nvidia.ko\n",
    "nvidia.c": """{1}
__attribute__((section(".modinfo"), used))
static const char modinfo[] = "version={0}\\0license={2}\\0description=stand-in of the Forja lab";
""",
}
ERROR = '#error "stand-in of the Forja lab for a release that does not fit the kernel"'
POSTINST = "#!/bin/sh\nset -e\n[ \"$1\" != configure ] || /usr/lib/dkms/common.postinst nvidia {0} /usr/share/nvidia \"\" \"$2\"\n"
PRERM = "#!/bin/sh\nset -e\ndkms remove -m nvidia -v {0} --all || true\n"
LICENSES = {"nvidia-kernel-open-dkms": "Dual MIT/GPL", "nvidia-kernel-dkms": "NVIDIA"}
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
[ ! -e /usr/bin/nvidia-uninstall ] || nvidia-uninstall --silent
mkdir -p /etc/nvidia
printf '%s\\n' 'ServerAddress=' 'FeatureType=0' '#IgnoreSP=TRUE' > /etc/nvidia/gridd.conf.template
printf '%s\\n' '#!/bin/sh' "rm -f $library/libnvidia-ml.so.* /usr/bin/nvidia-uninstall" > /usr/bin/nvidia-uninstall
chmod 0755 /usr/bin/nvidia-uninstall
touch "$library/libnvidia-ml.so.{0}"
ln -sf "libnvidia-ml.so.{0}" "$library/libnvidia-ml.so.1"
"""


def packages(run: Run, architecture: str) -> None:
    for release in RELEASES:
        version = f"{release}-1"
        for name, depends in TREE.items():
            if name in PROPRIETARY and int(release.split(".")[0]) > LAST_PROPRIETARY:
                continue
            fields = {"Maintainer": MAINTAINER, "Depends": depends.format(v=version), "Conflicts": RIVALS.get(name, "")}
            package(run, name, version, architecture, fields, content(name, release))
        package(run, f"nvidia-driver-pinning-{release}", version, "all", PINNING, pin(f"{release}-1"))
    for branch in sorted({release.split(".")[0] for release in RELEASES}):
        package(run, f"nvidia-driver-pinning-{branch}", f"{branch}-1", "all", PINNING, pin(f"{branch}.*"))


def content(name: str, release: str) -> dict[str, str]:
    files = {f"usr/lib/systemd/system/{name}.service": UNIT.format(name)} if name in DAEMONS else {}
    if name == "nvidia-persistenced":  # Debian's way: a service runs once it is installed, where its conditions allow
        files["DEBIAN/postinst"] = "#!/bin/sh\nset -e\nsystemctl enable --now nvidia-persistenced.service || true\n"
    if name in LICENSES:
        error = ERROR if release == BROKEN else ""
        files |= {f"usr/src/nvidia-{release}/{path}": text.format(release, error, LICENSES[name]) for path, text in SOURCE.items()}
        files |= {"DEBIAN/postinst": POSTINST.format(release), "DEBIAN/prerm": PRERM.format(release)}
    return files


PINNING = {"Maintainer": MAINTAINER, **dict.fromkeys(("Provides", "Conflicts", "Replaces"), "nvidia-driver-pinning")}


def pin(version: str) -> dict[str, str]:
    return {"etc/apt/preferences.d/nvidia-driver-pin": PIN.format(version)}


def make(mirror: Mirror) -> dict[str, object]:
    run, web, architecture = mirror.run, mirror.web, mirror.architecture
    build = Path("/build-nvidia")
    build.mkdir()
    os.chdir(build)
    packages(run, architecture)
    key = make_key(run, build / "gnupg", "nvidia")
    for distribution in DISTRIBUTIONS:
        root = web / f"developer.download.nvidia.com/compute/cuda/repos/{distribution}/{MACHINES.get(architecture, architecture)}"
        root.mkdir(parents=True)
        for file in build.glob("*.deb"):
            shutil.copy(file, root)
        (root / "Packages").write_text(run("apt-ftparchive", "packages", ".", cwd=root))
        sign(run, root, {"Origin": "NVIDIA", "Label": "NVIDIA CUDA", "Architectures": architecture})
        for name in ("3bf863cc.pub", "8793F200.pub"):
            (root / name).write_text(key.armored)
    forget_key(run)
    os.chdir("/")
    shutil.rmtree(build)
    return {"nvidia_driver_apt_key_fingerprint": key.fingerprint, "nvidia_driver_grid_releases": make_grid(web)}


def make_grid(web: Path) -> dict[str, dict[str, str]]:
    """The installers below their upstream's address, and their entries for nvidia_driver_grid_releases."""
    releases = {}
    for version in GRID:
        path = f"download.microsoft.com/download/standin/NVIDIA-Linux-x86_64-{version}-grid-azure.run"
        file = web / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(INSTALLER.format(version))
        releases[version] = {"url": f"https://{path}", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return releases
