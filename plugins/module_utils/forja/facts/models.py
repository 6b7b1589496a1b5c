# SPDX-License-Identifier: Apache-2.0
"""What a PCI device id tells about a GPU: product, chip, architecture, compute capability."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import pci_ids as gpu_ids

VENDORS = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
_TABLES = {"10de": gpu_ids.NVIDIA, "1002": gpu_ids.AMD, "8086": gpu_ids.INTEL}
_BRANDS = {"10de": "NVIDIA", "1002": "AMD", "8086": "Intel"}

# Chips by their first letters; where one family has several compute capabilities the longest prefix decides.
# Compute capabilities: https://developer.nvidia.com/cuda-gpus and .../cuda-legacy-gpus.
# To extend for a new family: one line here, and gpu_ids.py from a newer pci.ids.
CHIPS = {
    "GM10": ("Maxwell", "5.0"),
    "GM20": ("Maxwell", "5.2"),
    "GP10": ("Pascal", "6.1"),
    "GP100": ("Pascal", "6.0"),
    "GV10": ("Volta", "7.0"),
    "TU1": ("Turing", "7.5"),
    "GA10": ("Ampere", "8.6"),
    "GA100": ("Ampere", "8.0"),
    "AD10": ("Ada", "8.9"),
    "GH10": ("Hopper", "9.0"),
    "GB10": ("Blackwell", "10.0"),
    "GB10B": ("Blackwell", "11.0"),
    "GB11": ("Blackwell", "10.3"),
    "GB12": ("Blackwell", None),  # pci.ids lists the chip; nothing else is known of it
    "GB20": ("Blackwell", "12.0"),
    "GB20B": ("Blackwell", "12.1"),
    "GR1": ("Rubin", None),  # no CUDA release named its compute capability when this was written
    "Vega": ("GCN 5", None),
    "Arcturus": ("CDNA", None),
    "Aldebaran": ("CDNA 2", None),
    "Aqua": ("CDNA 3", None),
    "Navi_1": ("RDNA", None),
    "Navi_2": ("RDNA 2", None),
    "Navi_3": ("RDNA 3", None),
    "DG2": ("Xe-HPG", None),
    "ATS-M": ("Xe-HPG", None),
    "Ponte": ("Xe-HPC", None),
    "Battlemage": ("Xe2", None),
}

# In the order of age: an index says which came first.
NVIDIA_ARCHITECTURES = ("Maxwell", "Pascal", "Volta", "Turing", "Ampere", "Ada", "Hopper", "Blackwell", "Rubin")
_FIRST_MAXWELL = 0x1340  # GM108; every NVIDIA display device below it is Kepler or older (pci.ids)


class Model(NamedTuple):
    """One product; chip, architecture and compute capability are None when the table does not know them."""

    name: str
    chip: Optional[str]
    architecture: Optional[str]
    compute_capability: Optional[str]
    known: bool


def describe(vendor: str, device: str) -> Model:
    """The model with these four-digit lower-case hexadecimal PCI ids."""
    brand = _BRANDS.get(vendor, vendor)
    table = _TABLES.get(vendor, "")
    start = table.find("\n" + device + " ") if len(device) == 4 else -1
    if start < 0:
        old = vendor == "10de" and int(device, 16) < _FIRST_MAXWELL
        name = f"{brand} GPU {vendor}:{device}"
        return Model(name, None, "before Maxwell" if old else None, None, known=old)
    _id, chip, product = table[start + 1 : table.index("\n", start + 1)].split(" ", 2)
    architecture, capability = _family(chip)
    if device[:2] == "75" and vendor == "1002":
        architecture = "CDNA 4"  # MI350 series; pci.ids files it under the code name of MI300
    name = f"{brand} {product if product != '-' else chip.replace('_', ' ')}"
    return Model(name, chip, architecture, capability, known=True)


def is_listed(vendor: str, device: str) -> bool:
    """Whether the shipped table has this device."""
    return f"\n{device} " in _TABLES.get(vendor, "")


def architecture_of_capability(capability: str) -> Optional[str]:
    """The architecture of a compute capability such as 9.0: what the driver tells when the table does not."""
    for architecture, known in CHIPS.values():
        if known == capability:
            return architecture
    return "Ampere" if capability == "8.7" else "Volta" if capability == "7.2" else None


def older_than(architecture: Optional[str], other: str) -> bool:
    """Whether an NVIDIA architecture came before another; an unknown one is taken for new."""
    if architecture == "before Maxwell":
        return True
    if architecture not in NVIDIA_ARCHITECTURES:
        return False
    return NVIDIA_ARCHITECTURES.index(architecture) < NVIDIA_ARCHITECTURES.index(other)


def _family(chip: str) -> Tuple[Optional[str], Optional[str]]:
    for length in range(len(chip), 1, -1):
        if chip[:length] in CHIPS:
            return CHIPS[chip[:length]]
    return None, None


def drivable(gpus: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Of the records of GPUs those of NVIDIA's that a driver of this host can serve: not given to virtual machines, and not older than
    every maintained branch."""
    return [gpu for gpu in gpus if gpu["vendor"] == "nvidia" and gpu["driver"] != "vfio-pci" and gpu["architecture"] != "before Maxwell"]
