# SPDX-License-Identifier: Apache-2.0
"""GPUs, NVSwitches and InfiniBand adapters as PCI sysfs shows them: no driver, no lspci, no root needed."""

import re
from typing import Any, Dict, List, NamedTuple, Optional

from ..host.files import HostFiles
from . import models as gpu_models

DEVICES = "/sys/bus/pci/devices"
DRIVER = "/proc/driver/nvidia/gpus"
# Domains have four digits, or more behind Hyper-V and Intel VMD.
ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
HEX = re.compile(r"0x([0-9a-f]{4,6})$")

# VGA controller, 3D controller, other display controller (AMD MI200, Intel Max), processing accelerator (AMD MI300).
GPU_CLASSES = ("0300", "0302", "0380", "1200")
BRIDGE_CLASS = "0680"
INFINIBAND_CLASS = "0207"
# NVIDIA's chipsets of the 2000s also have bridges of class 0680; all their ids are below this one.
_FIRST_SWITCH = 0x1A00


class PciScan(NamedTuple):
    """What one walk over the PCI devices found."""

    gpus: List[Dict[str, Any]]
    nvswitch: int
    infiniband_pci: bool
    unreadable: List[str]


def scan(files: HostFiles) -> PciScan:
    """Walk over the PCI devices once. Addresses whose class or ids cannot be read are returned, not raised."""
    gpus: List[Dict[str, Any]] = []
    unreadable: List[str] = []
    nvswitch = 0
    infiniband = False
    for address in files.names(DEVICES):
        if not ADDRESS.match(address):
            continue
        code = _hex(files, address, "class")
        if code is None:
            unreadable.append(address)
            continue
        code = code[:4]
        if code == INFINIBAND_CLASS:
            infiniband = True
        if code != BRIDGE_CLASS and code not in GPU_CLASSES:
            continue
        vendor = _hex(files, address, "vendor")
        if vendor is not None and vendor not in gpu_models.VENDORS:
            continue
        device = _hex(files, address, "device")
        if vendor is None or device is None:
            unreadable.append(address)
        elif code == BRIDGE_CLASS:
            nvswitch += vendor == "10de" and int(device, 16) >= _FIRST_SWITCH
        elif not (vendor == "8086" and code == "1200" and not gpu_models.is_listed(vendor, device)):
            # Intel files its NPUs under 1200: only listed ones are GPUs.
            gpus.append(_gpu(files, address, code, vendor, device))
    return PciScan(gpus, nvswitch, infiniband, unreadable)


def has_infiniband(files: HostFiles, found: PciScan) -> bool:
    """An InfiniBand adapter, or one that can be either and has a port in InfiniBand mode."""
    if found.infiniband_pci:
        return True
    base = "/sys/class/infiniband"
    for adapter in files.names(base):
        for port in files.names(f"{base}/{adapter}/ports"):
            if files.word(f"{base}/{adapter}/ports/{port}/link_layer") == "InfiniBand":
                return True
    return False


def normal_address(text: str) -> str:
    """The address as sysfs writes it; NVML writes the domain with eight digits."""
    domain, _colon, rest = text.strip().lower().partition(":")
    try:
        return f"{int(domain, 16):04x}:{rest}"
    except ValueError:
        return text.lower()


def blank_gpu() -> Dict[str, Any]:
    """The record of a GPU of which nothing is known: every key that a record has."""
    return {
        "address": None,
        "vendor": None,
        "pci_id": None,
        "subsystem_id": None,
        "pci_class": None,
        "name": None,
        "chip": None,
        "architecture": None,
        "compute_capability": None,
        "integrated": False,
        "virtual_function": False,
        "driver": None,
        "numa_node": None,
        "iommu_group": None,
        "device_nodes": [],
        "index": None,
        "uuid": None,
        "driver_name": None,
        "memory_mib": None,
        "persistence": None,
        "ecc": None,
        "mig": None,
        "processes": None,
    }


def _gpu(files: HostFiles, address: str, code: str, vendor: str, device: str) -> Dict[str, Any]:
    here = f"{DEVICES}/{address}/"
    model = gpu_models.describe(vendor, device)
    node = files.number(here + "numa_node")
    subsystem = (_hex(files, address, "subsystem_vendor"), _hex(files, address, "subsystem_device"))
    gpu = blank_gpu()
    gpu.update(
        address=address,
        vendor=gpu_models.VENDORS[vendor],
        pci_id=f"{vendor}:{device}",
        subsystem_id=f"{subsystem[0]}:{subsystem[1]}" if None not in subsystem else None,
        pci_class=code,
        name=model.name,
        chip=model.chip,
        architecture=model.architecture,
        compute_capability=model.compute_capability,
        # Intel's own graphics sit at 00:02.0 of the first domain and are not in the table of discrete cards.
        integrated=(vendor == "8086" and not model.known) or model.chip in ("GB10B", "GB20B"),
        virtual_function=files.link(here + "physfn") is not None,
        driver=files.link_name(here + "driver"),
        numa_node=node if node is not None and node >= 0 else None,
        iommu_group=files.link_name(here + "iommu_group"),
        device_nodes=_nodes(files, here),
    )
    return gpu


def _nodes(files: HostFiles, here: str) -> List[str]:
    """The nodes under /dev that lead to this GPU alone, but NVIDIA's own."""
    nodes = ["/dev/dri/" + name for name in files.names(here + "drm") if re.match(r"(card|renderD)[0-9]+$", name)]
    group = files.link_name(here + "iommu_group")
    if group and files.link_name(here + "driver") == "vfio-pci":
        nodes.append("/dev/vfio/" + group)
        nodes.extend("/dev/vfio/devices/" + name for name in files.names(here + "vfio-dev"))
    return nodes


def driver_node(files: HostFiles, address: str) -> Optional[str]:
    """The node of a GPU that NVIDIA's driver has. The driver itself answers this read: where it is stuck, so is who reads."""
    information = files.text(f"{DRIVER}/{address}/information", 4096)
    minor = re.search(r"^Device Minor:\s*(\d+)", information or "", re.M)
    return "/dev/nvidia" + minor.group(1) if minor else None


def _hex(files: HostFiles, address: str, name: str) -> Optional[str]:
    word = files.word(f"{DEVICES}/{address}/{name}")
    match = HEX.match(word.lower()) if word else None
    return match.group(1) if match else None
