# SPDX-License-Identifier: Apache-2.0
"""A stand-in for nvidia-smi over the simulated GPUs: lists them and resets them, and says what it is."""

from __future__ import annotations

import argparse
from typing import Any

from .commands import simulator
from .layout import CODES
from .simulator import SimulatorError

SAYS = "NVIDIA-SMI stand-in of Forja's lab: its GPUs are simulated, and it knows only -L and -r"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nvidia-smi", description=SAYS)
    parser.add_argument("-L", "--list-gpus", action="store_true", help="list the GPUs and their MIG devices")
    parser.add_argument("-r", "--gpu-reset", action="store_true", help="reset the GPUs of -i, or all")
    parser.add_argument("-i", "--id", default="", metavar="GPU[,GPU]", help="index, UUID or PCI address")
    parser.add_argument("--version", action="version", version=SAYS)
    return parser


def listing(gpu: dict[str, Any]) -> list[str]:
    """A GPU and its MIG devices in nvidia-smi's own words."""
    names = [(part["name"], part["uuid"]) for instance in gpu["instances"] for part in instance["compute"]]
    lines = [f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})"]
    return lines + [f"  MIG {name:<12}Device {number:>2}: (UUID: {uuid})" for number, (name, uuid) in enumerate(names)]


def reset(chosen: list[dict[str, Any]]) -> int:
    names = [f"GPU {gpu['address'].upper().zfill(16)}" for gpu in chosen]
    if not simulator().privileged():
        print(f"Unable to reset {names[0]}: Insufficient Permissions\nTerminating early due to previous errors.")
        return CODES["NO_PERMISSION"]
    try:
        simulator().reset([gpu["uuid"] for gpu in chosen])
    except SimulatorError as error:
        print("The following GPUs could not be reset:", *(f"  {name}: {error}" for name in names), sep="\n")
        return 255
    print(*(f"{name} was successfully reset." for name in names), "All done.", sep="\n")
    return 0


def main() -> int:
    given = _parser().parse_args()
    try:
        gpus = simulator().show()["gpus"]
    except SimulatorError:
        print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
        return CODES["DRIVER_NOT_LOADED"]
    wanted = {short(name) for name in given.id.split(",") if name}
    chosen = [gpu for gpu in gpus if not wanted or wanted & {str(gpu["index"]), gpu["uuid"], gpu["address"]}]
    if len(chosen) < len(wanted):
        print("No devices were found")
        return CODES["NOT_FOUND"]
    if given.gpu_reset:
        return reset(chosen)
    if given.list_gpus:
        print(*(line for gpu in chosen for line in listing(gpu)), sep="\n")
        return 0
    print(SAYS, *(line for gpu in chosen for line in listing(gpu)), sep="\n")
    return 0


def short(name: str) -> str:
    """A PCI address with a domain of four digits; anything else as it is."""
    address = name.lower()
    return address[4:] if len(address) == 16 and address.startswith("0000") else address if ":" in address else name
