"""NVIDIA's repository of the container toolkit: its four packages under their names, with stand-ins for the programs in them.

nvidia-ctk writes a true CDI specification of the machine that the lab's host simulates, and makes the device nodes that it names (they
are /dev/null: no program computes on them). nvidia-container-runtime is runc. The units are NVIDIA's own as of 1.20, but for one condition.
"""

import os
import shutil
from pathlib import Path

from apt_archive import forget_key, make_key, package, sign
from mirror import Mirror

VERSIONS = ("1.19.1", "1.20.0")
MAINTAINER = "NVIDIA CORPORATION <cudatools@nvidia.com>"
TREE = {
    "libnvidia-container1": "",
    "libnvidia-container-tools": "libnvidia-container1 (= {v})",
    "nvidia-container-toolkit-base": "python3",
    "nvidia-container-toolkit": "nvidia-container-toolkit-base (= {v}), libnvidia-container-tools (= {v})",
}
# NVIDIA's asks for nvidia-smi and for the module in modules.dep; this one for a machine whose driver is loaded.
SERVICE = """[Unit]
Description=Refresh NVIDIA CDI specification file (stand-in of the Forja lab)
ConditionPathExists=/usr/bin/nvidia-ctk
StartLimitBurst=5
StartLimitIntervalSec=10s

[Service]
Type=oneshot
Environment=NVIDIA_CTK_CDI_OUTPUT_FILE_PATH=/var/run/cdi/nvidia.yaml
EnvironmentFile=-/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env
ExecCondition=/bin/sh -c '[ -e /srv/machine/sys/module/nvidia/version ] || [ -e /dev/dxg ]'
ExecStart=/usr/bin/nvidia-ctk cdi generate
CapabilityBoundingSet=CAP_SYS_MODULE CAP_SYS_ADMIN CAP_MKNOD
Restart=on-failure
RestartSec=1s

[Install]
WantedBy=multi-user.target
"""
PATH = """[Unit]
Description=Trigger CDI refresh on NVIDIA driver or toolkit install / upgrade events (stand-in of the Forja lab)

[Path]
PathChanged=/lib/modules/%v/modules.dep
PathChanged=/lib/modules/%v/modules.dep.bin
PathChanged=/usr/bin/nvidia-ctk

[Install]
WantedBy=multi-user.target
"""
POSTINST = """#!/bin/sh
set -e
[ "$1" != configure ] || systemctl enable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service || true
"""
PRERM = "#!/bin/sh\nset -e\n[ \"$1\" != remove ] || systemctl disable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service || true\n"
CONFIG = """# Stand-in of the Forja lab, in the form of the file that the package makes.
[nvidia-container-cli]
environment = []
#no-cgroups = false

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]
"""
RUNTIME = "#!/bin/sh\n# Stand-in of the Forja lab for nvidia-container-runtime.\nexec runc \"$@\"\n"


def make(mirror: Mirror) -> dict[str, object]:
    build = Path("/build-toolkit")
    build.mkdir()
    data = Path(__file__).with_suffix("")
    os.chdir(build)
    for version in VERSIONS:
        ctk = (data / "nvidia-ctk").read_text().replace("@VERSION@", version)
        content = {
            "nvidia-container-toolkit-base": {
                "usr/bin/nvidia-ctk": ctk,
                "usr/bin/nvidia-container-runtime": RUNTIME,
                "etc/nvidia-container-runtime/config.toml": CONFIG,
                "usr/lib/systemd/system/nvidia-cdi-refresh.service": SERVICE,
                "usr/lib/systemd/system/nvidia-cdi-refresh.path": PATH,
                "DEBIAN/postinst": POSTINST,
                "DEBIAN/prerm": PRERM,
            },
        }
        for name, depends in TREE.items():
            fields = {"Maintainer": MAINTAINER, "Depends": depends.format(v=f"{version}-1")}
            package(mirror.run, name, f"{version}-1", mirror.architecture, fields, content.get(name, {}))
    root = mirror.web / "nvidia.github.io/libnvidia-container"
    flat = root / "stable/deb" / mirror.architecture
    flat.mkdir(parents=True)
    for file in build.glob("*.deb"):
        shutil.copy(file, flat)
    (flat / "Packages").write_text(mirror.run("apt-ftparchive", "packages", ".", cwd=flat))
    key = make_key(mirror.run, build / "gnupg", "toolkit")
    sign(mirror.run, flat, {"Origin": "NVIDIA", "Label": "Container toolkit (Forja lab stand-in)", "Architectures": mirror.architecture})
    (root / "gpgkey").write_text(key.armored)
    forget_key(mirror.run)
    os.chdir("/")
    shutil.rmtree(build)
    return {"nvidia_container_toolkit_apt_key_fingerprints": [key.fingerprint]}
