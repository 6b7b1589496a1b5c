# SPDX-License-Identifier: Apache-2.0
"""What kind of machine this is, and the evidence that says so."""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..host.files import HostFiles

DMI = "/sys/class/dmi/id/"
# Every Azure VM carries this tag, and nothing else does (learn.microsoft.com, "Azure Instance Metadata Service").
AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
WSL_LIBRARIES = "/usr/lib/wsl/lib"

_VM_VENDOR = re.compile(
    r"QEMU|KVM|VMware|VirtualBox|innotek|Xen|Bochs|Parallels|OpenStack|Google Compute Engine|Amazon EC2|"
    r"Alibaba Cloud|Apple Virtualization|Virtual Machine|Cloud Hypervisor|HVM domU",
    re.I,
)
_CONTAINER_GROUP = re.compile(r"(docker|kubepods|containerd|libpod|lxc)[-/.:]")


class Platform(NamedTuple):
    """`kind` is one of bare_metal, vm, wsl2, wsl1, jetson, azure, container."""

    kind: str
    evidence: List[str]
    is_azure: bool
    is_jetson: bool
    wsl: Optional[Dict[str, Any]]


def detect(files: HostFiles) -> Platform:
    """Decide on the kind.

    The inner one wins: a container on WSL2 is a container (its `wsl` record is still there), an Azure VM is azure.
    """
    evidence: List[str] = []
    wsl, wsl_kind = _wsl(files, evidence)
    jetson = _jetson(files, evidence)
    azure = _azure(files, evidence)
    virtual = _virtual(files, evidence)
    # Containers see neither; a distribution that came into WSL by `docker export` brings the engine's mark along.
    imported = wsl is not None and (wsl["interop"] or files.exists("/run/WSL"))
    if _container(files, evidence, ("/run/.containerenv",) if imported else ("/.dockerenv", "/run/.containerenv")):
        kind = "container"
    elif wsl_kind:
        kind = wsl_kind
    elif jetson:
        kind = "jetson"
    elif azure:
        kind = "azure"
    else:
        kind = "vm" if virtual else "bare_metal"
    if kind == "bare_metal":
        evidence.append("no sign of a hypervisor, a container or WSL")
    return Platform(kind, evidence, azure, jetson, wsl)


def kernel_release(files: HostFiles) -> Optional[str]:
    """The running kernel's release, as `uname -r` prints it."""
    return files.word("/proc/sys/kernel/osrelease")


def _wsl(files: HostFiles, evidence: List[str]) -> Tuple[Optional[Dict[str, Any]], str]:
    kernel = kernel_release(files) or ""
    by_name = "microsoft" in kernel.lower()
    dxg = files.exists("/dev/dxg")
    libraries = files.exists(WSL_LIBRARIES + "/libdxcore.so")
    interop = any(files.exists("/proc/sys/fs/binfmt_misc/" + name) for name in ("WSLInterop", "WSLInterop-late"))
    # A kernel of one's own may lack the name; then two other signs must agree, for /dev/dxg alone also serves
    # GPU paravirtualisation in ordinary Hyper-V guests.
    if not by_name and not (interop and (dxg or libraries)):
        return None, ""
    kind = "wsl1" if re.match(r"4\.4\.0-\d+-Microsoft", kernel) and not dxg else "wsl2"
    evidence.append(f"kernel release is {kernel}" if by_name else "WSL interop and DXCore are there")
    if dxg:
        evidence.append("/dev/dxg exists")
    return {
        "kernel": kernel or None,
        "dxg": dxg,
        "library_folder": WSL_LIBRARIES if files.is_folder(WSL_LIBRARIES) else None,
        "systemd": files.is_folder("/run/systemd/system"),
        "interop": interop,
    }, kind


def _jetson(files: HostFiles, evidence: List[str]) -> bool:
    compatible = files.text("/proc/device-tree/compatible", 4096) or ""
    if re.search(r"^nvidia,tegra\d", compatible, re.M):
        evidence.append(f"device tree is compatible with {compatible.split()[-1]}")
        return True
    if (files.word("/sys/devices/soc0/family") or "").startswith("Tegra"):
        evidence.append("/sys/devices/soc0/family says Tegra")
        return True
    return False


def _azure(files: HostFiles, evidence: List[str]) -> bool:
    if files.word(DMI + "chassis_asset_tag") == AZURE_ASSET_TAG:
        evidence.append("DMI chassis asset tag is Azure's")
        return True
    if files.word("/run/cloud-init/cloud-id") == "azure":
        evidence.append("cloud-init says azure")
        return True
    return False


def _virtual(files: HostFiles, evidence: List[str]) -> bool:
    names = [files.word(DMI + name) for name in ("sys_vendor", "product_name")]
    text = " ".join(name for name in names if name)
    # AWS names its bare-metal sizes c5.metal and the like, with the vendor Amazon EC2.
    if _VM_VENDOR.search(text) and not re.search(r"\.metal\b|metal-\d", text):
        evidence.append(f"DMI says {text}")
        return True
    # The flags of the first processor are in the first kilobytes; the whole file is slow on large machines.
    flags = re.search(r"^flags\s*:(.*)$", files.text("/proc/cpuinfo", 4096) or "", re.M)
    if flags and " hypervisor" in flags.group(1):
        evidence.append("the processor reports a hypervisor")
        return True
    if files.word("/sys/hypervisor/type"):
        evidence.append("/sys/hypervisor/type exists")
        return True
    return False


def _container(files: HostFiles, evidence: List[str], marks: Tuple[str, ...]) -> bool:
    for path in marks:
        if files.exists(path):
            evidence.append(f"{path} exists")
            return True
    name = files.word("/run/systemd/container")
    if name and name != "wsl":
        evidence.append(f"systemd says it runs in {name}")
        return True
    group = _CONTAINER_GROUP.search(files.text("/proc/1/cgroup", 8192) or "")
    if group:
        evidence.append(f"process 1 is in a control group of {group.group(1)}")
        return True
    return False
