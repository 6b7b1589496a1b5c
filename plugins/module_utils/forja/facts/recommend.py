# SPDX-License-Identifier: Apache-2.0
"""Which driver a host should have, from its facts. Pure: facts in, values with a reason for each out."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from . import jetpack
from .models import drivable, older_than

# NVIDIA's driver branches of autumn 2026 (docs.nvidia.com/datacenter/tesla, supported drivers):
PRODUCTION = "595"  # production branch until March 2027, CUDA 13.2
LAST_FOR_VOLTA = "580"  # long-term branch until June 2028, CUDA 13.0; the last with Maxwell, Pascal and Volta
GRID = {"NVIDIA A10": "570", "NVIDIA Tesla M60": "535"}  # vGPU 18 and vGPU 16; anything newer gets PRODUCTION (vGPU 20)
# Python wheels of PyTorch: CUDA 13 wheels want a driver of 580 or newer and have no code for GPUs before Turing.
NEW_WHEEL, NEW_WHEEL_DRIVER = "cu130", 580
OLD_WHEEL, OLD_WHEEL_DRIVER = "cu126", 525
BLACKWELL_WHEEL, BLACKWELL_WHEEL_DRIVER = "cu128", 570  # the first wheels with code for Blackwell

Choice = Tuple[Optional[Any], str]


class Facts(NamedTuple):
    """What the rules look at; the records are those that gpu_facts returns."""

    kind: str
    gpus: List[Dict[str, Any]]
    azure: Optional[Dict[str, Any]]
    jetson: Optional[Dict[str, Any]]
    nvswitch: int
    loaded_version: Optional[str]


def recommend(facts: Facts) -> Tuple[Dict[str, Any], List[Tuple[str, str]]]:
    """The `recommended` record (each value with its reason under `reasons`), and the problems as name and sentence."""
    problems: List[Tuple[str, str]] = []
    nvidia = [gpu for gpu in facts.gpus if gpu["vendor"] == "nvidia"]
    driver = _driver(facts, nvidia, problems)
    branch = _branch(facts, driver[0])
    fabric = _fabric(facts, nvidia, driver[0])
    wheel = _wheel(facts, nvidia, driver[0], branch[0])
    parts = {"driver": driver, "branch": branch, "fabric_manager": fabric, "cuda_wheel": wheel}
    record: Dict[str, Any] = {name: value for name, (value, _reason) in parts.items()}
    record["reasons"] = {name: reason for name, (_value, reason) in parts.items()}
    return record, problems


def _driver(facts: Facts, nvidia: List[Dict[str, Any]], problems: List[Tuple[str, str]]) -> Tuple[str, str]:
    ours = [gpu for gpu in nvidia if gpu["driver"] != "vfio-pci"]
    if facts.kind in ("wsl2", "wsl1"):
        return "none", "WSL: the driver is that of Windows, a Linux driver here would hide it."
    if facts.kind == "jetson":
        return "none", "Jetson: the driver is part of L4T and is updated with JetPack only."
    if facts.kind == "container":
        return "none", "Container: the driver belongs on the machine that runs it."
    size = facts.azure if facts.azure and facts.azure["driver"] else None
    if size and size["driver"] == "none":
        return "none", f"Azure size {size['size']}: {size['note'] or 'it has no GPU that Linux can drive'}."
    if size and size["driver"] in ("grid", "rocm"):
        why = size["note"] or f"its GPU is an {size['gpu_model']}"
        return str(size["driver"]), f"Azure size {size['size']}: {why}."
    if not ours:
        accelerators = [gpu for gpu in facts.gpus if gpu["vendor"] == "amd" and gpu["driver"] != "vfio-pci" and _is_accelerator(gpu)]
        if accelerators:
            return "rocm", f"{_names(accelerators)} computes with AMD's ROCm."
        given = [gpu for gpu in facts.gpus if gpu["driver"] == "vfio-pci"]
        if given:
            return "none", f"{_names(given)} is bound to vfio-pci: it belongs to virtual machines, not to this host."
        if facts.gpus:
            return "none", "No NVIDIA GPU and no AMD accelerator here: the kernel's own drivers serve."
        return "none", "No GPU was found."
    usable = drivable(nvidia)
    ancient = [gpu for gpu in ours if gpu not in usable]
    if ancient:
        sentence = f"No driver branch that is still maintained supports {_names(ancient)}"
        if not usable:
            return "none", sentence + "."
        problems.append(("gpu_too_old", sentence + "; the recommended one is for the other GPUs."))
    old = [gpu for gpu in usable if older_than(gpu["architecture"], "Turing")]
    new = [gpu for gpu in usable if not older_than(gpu["architecture"], "Blackwell")]
    if old and new:
        sentence = (f"{old[0]['name']} needs the proprietary module, {new[0]['name']} works with the open one only: one host cannot "
                    "drive both.")
        problems.append(("driver_conflict", sentence + " Bind one of them to vfio-pci or take it out."))
        return "none", sentence
    if old:
        return "proprietary", f"{old[0]['name']} ({old[0]['architecture']}) is older than Turing, which the open module needs."
    if any(gpu["architecture"] is None for gpu in usable):
        return "open", "The GPU is not in the table of ids; what is newer than the table works with the open module."
    if new:
        return "open", f"{new[0]['name']} ({new[0]['architecture']}) works with the open module only."
    return "open", f"NVIDIA recommends the open module from Turing on ({usable[0]['architecture']})."


def _branch(facts: Facts, driver: str) -> Tuple[Optional[str], str]:
    if driver in ("none", "rocm"):
        return None, "No NVIDIA driver is to be installed."
    if driver == "grid":
        model = (facts.azure or {}).get("gpu_model") or ""
        branch = GRID.get(model, PRODUCTION)
        return branch, f"Microsoft's GRID build for {model} is of this branch; the host's vGPU software sets it, not NVIDIA's calendar."
    if driver == "proprietary":
        return LAST_FOR_VOLTA, "R580 is the last branch for Maxwell, Pascal and Volta, maintained until June 2028."
    return PRODUCTION, "R595 is the production branch, maintained until March 2027."


def _fabric(facts: Facts, nvidia: List[Dict[str, Any]], driver: str) -> Tuple[bool, str]:
    if driver not in ("open", "proprietary"):
        return False, "No NVIDIA data-center driver is to be installed."
    if facts.azure and facts.azure["fabric"] == "imex":
        return False, "GB200 and GB300 reach their NVLink switches through IMEX, not through the fabric manager of the host."
    if facts.nvswitch:
        return True, f"{facts.nvswitch} NVSwitches are on the PCI bus; without the fabric manager CUDA ends with error 802."
    if facts.azure and facts.azure["fabric"] == "fabric_manager":
        return True, f"The Azure size {facts.azure['size']} joins its GPUs with NVSwitches."
    # The switches of these boards are behind ConnectX bridges and have no PCI function of NVIDIA's.
    boards = [gpu for gpu in nvidia if gpu["chip"] in ("GB100", "GB110") and _is_hgx(gpu)]
    if len(boards) >= 8:
        return True, f"Eight {boards[0]['name']} are an HGX board, whose NVSwitches PCI does not show (inferred, not tested)."
    return False, "No NVSwitch: PCIe cards and NVLink bridges need no fabric manager."


def _wheel(facts: Facts, nvidia: List[Dict[str, Any]], driver: str, branch: Optional[str]) -> Tuple[Optional[str], str]:
    if facts.kind == "jetson":
        release = (facts.jetson or {}).get("jetpack")
        tag = jetpack.WHEELS.get(".".join(str(release).split(".")[:2])) if release else None
        if tag:
            return tag, f"JetPack {release}: wheels of the Jetson AI Lab index; plain ones often lack code for this GPU."
        return None, f"No current wheels are known for JetPack {release or 'of this release'}."
    if not nvidia:
        return None, "No NVIDIA GPU."
    usable = drivable(nvidia)
    if not usable:
        return None, f"{_names(nvidia)} serves no program of this host."
    loaded = _major(facts.loaded_version)
    version, which = (loaded, "the loaded driver") if loaded else (_major(branch), "the recommended branch")
    old = [gpu for gpu in usable if older_than(gpu["architecture"], "Turing")]
    blackwell = [gpu for gpu in usable if gpu["architecture"] and not older_than(gpu["architecture"], "Blackwell")]
    if version is None and facts.kind not in ("wsl2", "container"):
        return None, "No NVIDIA driver is to be installed."
    if old and (version is None or version >= OLD_WHEEL_DRIVER):
        return OLD_WHEEL, "CUDA 13 wheels have no code for GPUs before Turing."
    if version is None:
        return NEW_WHEEL, f"Taken for a driver of 580 or newer, which was not asked; an older one wants {OLD_WHEEL}."
    if version >= NEW_WHEEL_DRIVER:
        return NEW_WHEEL, f"CUDA 13 wheels run on drivers from 580 on ({which} is {version})."
    if blackwell:
        if version >= BLACKWELL_WHEEL_DRIVER:
            return BLACKWELL_WHEEL, f"{which.capitalize()} is {version}, too old for CUDA 13, and Blackwell needs 12.8."
        return None, f"{which.capitalize()} is {version}; wheels for Blackwell need {BLACKWELL_WHEEL_DRIVER} or newer."
    if version >= OLD_WHEEL_DRIVER:
        return OLD_WHEEL, f"{which.capitalize()} is {version}: CUDA 12 wheels run on it, CUDA 13 wheels want 580."
    return None, f"{which.capitalize()} is {version}; every current wheel needs {OLD_WHEEL_DRIVER} or newer."


def _major(version: Optional[str]) -> Optional[int]:
    head = (version or "").split(".")[0]
    return int(head) if head.isdigit() else None


def _names(gpus: List[Dict[str, Any]]) -> str:
    return ", ".join(sorted({str(gpu["name"]) for gpu in gpus}))


def _is_hgx(gpu: Dict[str, Any]) -> bool:
    # Grace-Blackwell boards have the same chips and no host fabric manager.
    return not any(word in str(gpu["name"]) for word in ("GB200", "GB300"))


def _is_accelerator(gpu: Dict[str, Any]) -> bool:
    # AMD's only devices of class 1200 are accelerators: one that is newer than the table of ids shows itself so.
    return gpu["pci_class"] == "1200" or any(word in str(gpu["name"]) for word in ("Instinct", "PRO V"))
