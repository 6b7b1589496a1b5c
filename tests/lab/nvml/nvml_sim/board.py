# SPDX-License-Identifier: Apache-2.0
"""From a machine's description to GPUs: what each model offers on the board at hand.

profiles.json knows the models with MIG; plain.json has a few without. What profiles.json does not know (null) is computed here,
by the functions whose names begin with `guess_`; the README lists the rules.
"""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

from .layout import NONE, NUMBERS

FOLDER = Path(__file__).resolve().parents[1]
NAMESPACE = uuid.UUID("8c1b4e0a-6f0e-5d53-9d4c-51d6f2f3a7f1")  # of the simulated GPUs' UUIDs
# As nvml.h numbers them.
ARCHITECTURES = {"Turing": 6, "Ampere": 7, "Ada": 8, "Hopper": 9, "Blackwell": 10}
CAPABILITIES = {"Ampere": (8, 0), "Hopper": (9, 0), "Blackwell": (10, 0)}
CAPABILITY_OF_MODEL = {"rtx-pro-6000-blackwell-96gb": (12, 0)}
KEYS = {"model", "product", "count", "uuid", "address", "computeless_leaf", "passthrough", "link_group"}


class MachineError(Exception):
    """The description of a machine is wrong; the message says where."""


def models() -> dict[str, dict[str, Any]]:
    """Every model by its key, those without MIG too."""
    known = json.loads((FOLDER / "profiles.json").read_text(encoding="utf-8"))["models"]
    plain = json.loads((FOLDER / "plain.json").read_text(encoding="utf-8"))["models"]
    return {model["key"]: model for model in known + plain}


def expand(machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The machine's GPUs one by one in the order of NVML, by address, each with its model, product, address and UUID."""
    unknown = set(machine) - {"about", "driver", "nvml", "cuda", "profiles_need_mode", "gpus"}
    if unknown:
        raise MachineError(f"unknown keys: {sorted(unknown)}")
    known = models()
    gpus: list[dict[str, Any]] = []
    for entry in machine.get("gpus", []):
        wrong = set(entry) - KEYS
        if wrong or entry.get("model") not in known:
            raise MachineError(f"GPU {entry}: unknown keys {sorted(wrong)}" if wrong else f"GPU {entry}: models are {sorted(known)}")
        for number in range(entry.get("count", 1)):
            if entry.get("count", 1) > 1 and {"uuid", "address"} & set(entry):
                raise MachineError(f"GPU {entry}: `count` excludes `uuid` and `address`")
            gpu = {key: value for key, value in entry.items() if key != "count"}
            gpu["model"] = known[entry["model"]]
            gpu["product"] = find_product(gpu["model"], entry.get("product"))
            gpu["address"] = parse_address(entry.get("address") or f"0000:{7 + 8 * (len(gpus) % 16):02x}:00.0")
            gpu["number"] = number
            gpus.append(gpu)
    gpus.sort(key=lambda gpu: gpu["address"])
    addresses = [gpu["address"] for gpu in gpus]
    if len(set(addresses)) < len(addresses) or len(gpus) > NUMBERS["SIM_GPUS"]:
        raise MachineError(f"give {NUMBERS['SIM_GPUS']} GPUs at most, each at an address of its own")
    for gpu in gpus:
        address = "{:04x}:{:02x}:{:02x}.0".format(*gpu["address"])
        gpu["uuid"] = gpu.get("uuid") or f"GPU-{uuid.uuid5(NAMESPACE, gpu['model']['key'] + ' ' + address)}"
    return gpus


def parse_address(text: str) -> tuple[int, int, int]:
    """Domain, bus and device of 0000:07:00.0; the function is always 0."""
    found = re.fullmatch(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.0", text.lower())
    if not found:
        raise MachineError(f"address {text!r} does not read like 0000:07:00.0")
    domain, bus, device = (int(part, 16) for part in found.groups())
    return domain, bus, device


def find_product(model: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    """A model's product by name or PCI device id; its first where none is asked for."""
    for product in model["products"]:
        if wanted is None or wanted.lower() in (product["name"].lower(), product["pci_device_id"].lower()):
            found: dict[str, Any] = product
            return found
    raise MachineError(f"{model['key']}: no product {wanted!r}; there are {[product['name'] for product in model['products']]}")


def subsystem(product: dict[str, Any]) -> int:
    """The first subsystem id that the model's sources give in full, else only NVIDIA's vendor part of one."""
    found = re.search(r"0x[0-9A-Fa-f]{8}", product["subsystem"] or "")
    return int(found.group(), 16) if found else 0x10DE


# --- what a board with MIG offers --------------------------------------------------------------------------------------


def placements(model: dict[str, Any], slices: int, size: int, computeless: int | None) -> list[tuple[int, int]]:
    """Every aligned place of `size` slots with compute for `slices`, where the leaf `computeless` has none."""
    unit = model["placement_unit"]
    leaves = size // unit
    places = []
    for first in range(0, model["tree_leaves"], leaves):
        computing = leaves - (computeless is not None and first <= computeless < first + leaves)
        if computing >= slices:
            places.append((first * unit, size))
    return places


def total_memory(model: dict[str, Any]) -> int:
    """MiB of the GPU. Where it is unknown, the gigabytes in the name of its largest profile."""
    if model["total_memory_mib"] is not None:
        return int(model["total_memory_mib"])
    return 1024 * max(int(re.findall(r"(\d+)gb", profile["name"])[0]) for profile in model["gi_profiles"])


def guess_memory(model: dict[str, Any], size: int) -> int:
    """An equal share of the GPU's memory by slots, in steps of 128 MiB as the known ones are."""
    return total_memory(model) * size // int(model["placement_slots"]) // 128 * 128


def unit_profile(model: dict[str, Any]) -> dict[str, Any]:
    """The plain profile of one slice, of which everything is known on every model."""
    found: dict[str, Any] = next(profile for profile in model["gi_profiles"] if profile["nvml_profile"] == 0)
    return found


def guess_engine(model: dict[str, Any], profile: dict[str, Any], engine: str) -> int:
    """As many as its slices have singly. The one OFA goes with the whole GPU."""
    if engine == "ofa":
        return int(profile["slices"] == model["compute_slices"])
    return int(unit_profile(model)[engine]) * int(profile["slices"])


def guess_multiprocessors(model: dict[str, Any], slices: int) -> int:
    """As many as its slices have singly: a lower bound, larger profiles have a few more."""
    return int(unit_profile(model)["sm"]) * slices


def offered(model: dict[str, Any], driver: str) -> list[dict[str, Any]]:
    """The profiles that this driver knows: some came later than the GPU."""
    major = int(driver.split(".")[0])
    return [profile for profile in model["gi_profiles"] if major >= int(profile.get("min_driver", "R0")[1:])]


ENGINES = {"decoders": "decoders", "encoders": "encoders", "jpegs": "jpeg", "ofas": "ofa", "copy_engines": "copy_engines"}


def profile_values(model: dict[str, Any], profile: dict[str, Any], computeless: int | None) -> dict[str, Any]:
    """Everything about a profile on this board, nothing unknown any more; `compute` likewise."""
    size = profile["placements"][0]["size"]
    values: dict[str, Any] = {
        "id": profile["id"],
        "name": profile["name"],
        "slices": profile["slices"],
        "count": profile["max_instances"],
        "graphics": int("+gfx" in profile["name"]),
        "placements": placements(model, profile["slices"], size, computeless),
        "memory_mib": guess_memory(model, size) if profile["memory_mb"] is None else profile["memory_mb"],
        "multiprocessors": guess_multiprocessors(model, profile["slices"]) if profile["sm"] is None else profile["sm"],
    }
    for ours, theirs in ENGINES.items():
        values[ours] = guess_engine(model, profile, theirs) if profile[theirs] is None else profile[theirs]
    values["compute"] = {
        part["id"]: {
            "slices": part["slices"],
            "count": part["max_instances"],
            "multiprocessors": guess_multiprocessors(model, part["slices"]) if part["sm"] is None else part["sm"],
            "placements": compute_placements(model, profile, part),
        }
        for part in profile["ci_profiles"]
    }
    return values


def compute_placements(model: dict[str, Any], profile: dict[str, Any], part: dict[str, Any]) -> list[tuple[int, int]]:
    """As profiles.json has them, and one more on Ampere: real A100 have made 1c and then 2c in a 3g, the 1c at slice 0."""
    places = [(place["start"], place["size"]) for place in part["placements"]]
    if model["architecture"] == "Ampere" and (profile["slices"], part["slices"]) == (3, 2):
        places.append((1, 2))
    return places


# --- into the state ----------------------------------------------------------------------------------------------------


def _fill(target: Any, values: dict[str, Any]) -> None:
    target.offered = 1
    for key, value in values.items():
        if key == "placements":
            target.placement_count = len(value)
            for number, (start, size) in enumerate(value):
                target.placements[number].start, target.placements[number].size = start, size
        elif key == "compute":
            for number, part in value.items():
                _fill(target.compute[number], part)
        else:
            setattr(target, key, value.encode() if isinstance(value, str) else value)


def _mig(target: Any, gpu: dict[str, Any], driver: str) -> None:
    model = gpu["model"]
    half = model["tree_leaves"] // 2
    leaf = gpu.get("computeless_leaf", model["typical_computeless_leaf"])
    # NVML counts the half that is complete first, whichever it is.
    target.halves_swapped = leaf is not None and leaf < half
    computeless = (leaf + half) % model["tree_leaves"] if target.halves_swapped else leaf
    target.aligned_compute = model["architecture"] != "Ampere"
    target.mig_capable = 1
    target.mode_needs_reset = model["mig_mode_change_needs_reset"]
    target.mode_survives_reboot = model["mig_mode_persists_over_reboot"]
    target.leaves, target.leaf_size = model["tree_leaves"], model["placement_unit"]
    target.computeless_leaf = NONE if computeless is None else computeless
    target.max_mig_devices = model["compute_slices"]
    profiles = {profile["nvml_profile"]: profile_values(model, profile, computeless) for profile in offered(model, driver)}
    for index, values in profiles.items():
        _fill(target.profiles[index], values)
    # The GPU has as many engines as the profile that has most of them.
    for number, engine in enumerate(("decoders", "encoders", "jpegs", "ofas")):
        target.engines[number] = max(values[engine] for values in profiles.values())
    parent = uuid.uuid5(NAMESPACE, gpu["uuid"])
    for gi in range(NUMBERS["SIM_INSTANCES"]):
        for start in range(NUMBERS["SIM_COMPUTES"]):
            target.mig_uuids[gi][start].value = f"MIG-{uuid.uuid5(parent, f'{gi}/{start}')}".encode()


def fill(state: Any, machine: dict[str, Any]) -> None:
    """Write a machine into an empty state."""
    driver = machine.get("driver", "580.65.06")
    state.driver, state.nvml = driver.encode(), machine.get("nvml", f"13.{driver}").encode()
    state.cuda = machine.get("cuda", 13000)
    state.profiles_need_mode = machine.get("profiles_need_mode", False)
    gpus = expand(machine)
    state.gpu_count = len(gpus)
    for number, gpu in enumerate(gpus):
        target, model = state.gpus[number], gpu["model"]
        capability = model.get("capability") or CAPABILITY_OF_MODEL.get(model["key"]) or CAPABILITIES[model["architecture"]]
        target.name, target.uuid = gpu["product"]["name"].encode(), gpu["uuid"].encode()
        target.board_serial = str(1320000000000 + uuid.uuid5(NAMESPACE, gpu["uuid"]).int % 10**9).encode()
        target.domain, target.bus, target.device = gpu["address"]
        target.pci_id, target.pci_subsystem_id = int(gpu["product"]["pci_device_id"], 16), subsystem(gpu["product"])
        target.architecture = ARCHITECTURES[model["architecture"]]
        target.capability_major, target.capability_minor = capability
        target.ecc = NONE if model.get("ecc", True) is None else int(model.get("ecc", True))
        target.memory_mib = total_memory(model)
        target.passthrough = gpu.get("passthrough", False)
        target.link_group = gpu.get("link_group", 0)
        if "gi_profiles" in model:
            _mig(target, gpu, driver)
