# SPDX-License-Identifier: Apache-2.0
"""The simulator's tool, its machines, and the lab's stand-in for nvidia-smi."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.forja.facts import nvml
from tests.lab.machines import build, match
from tests.lab.nvml.machine import HERE, Machine
from tests.lab.nvml.nvml_sim import board
from tests.lab.nvml.nvml_sim.layout import CODES
from tests.lab.nvml.nvml_sim.simulator import load
from tests.unit.lab.nvml_words import create, create_compute, gpu

Make = Callable[..., Machine]
MACHINES = sorted(path.stem for path in HERE.glob("machines/*.json"))
G3, G1 = 9, 19


def program(name: str, machine: Machine, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The real thing as a process of its own, as a person calls it."""
    argv = [str(HERE / name), *map(str, arguments)]
    return subprocess.run(argv, env=machine.env, capture_output=True, text=True, check=False)


# --- machines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_the_simulators_machines_can_be_booted(nvml_machine: Make, name: str) -> None:
    machine = nvml_machine(**load(name))
    assert len(machine.tool("show")["gpus"]) == len(board.expand(load(name)))


@pytest.mark.parametrize("name", [name for name in match.NAMES if "simulator" in build.load(match.MACHINES / name / "machine.yml")])
def test_a_lab_hosts_hardware_is_the_simulated_one(name: str) -> None:
    """What the lab mounts as sysfs and what NVML answers are two views of the same GPUs."""
    described = build.load(match.MACHINES / name / "machine.yml")
    gpus = {address: device["id"] for address, device in described["pci"].items() if device["class"] == "0302"}
    simulated = board.expand(load(described["simulator"]))
    found = {"{:04x}:{:02x}:{:02x}.0".format(*one["address"]): one["product"]["pci_device_id"] for one in simulated}
    assert {address: f"10de:{number[2:6].lower()}" for address, number in found.items()} == gpus
    assert load(described["simulator"])["driver"] == described["driver"]["version"]


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ({"gpus": [{"model": "a100"}]}, "models are .*a100-40gb"),
        ({"gpus": [{"model": "a100-40gb", "leaf": 3}]}, "unknown keys .*leaf"),
        ({"gpus": [], "drivers": "1"}, "unknown keys: .*drivers"),
        ({"gpus": [{"model": "t4", "product": "T5"}]}, "no product 'T5'; there are .*Tesla T4"),
        ({"gpus": [{"model": "t4", "address": "7:0"}]}, "'7:0' does not read like 0000:07:00.0"),
        ({"gpus": [{"model": "t4", "address": "0000:07:00.0"}, {"model": "t4"}, {"model": "t4", "address": "0000:07:00.0"}]}, "of its own"),
        ({"gpus": [{"model": "t4", "count": 17}]}, "16 GPUs at most"),
        ({"gpus": [{"model": "t4", "count": 2, "uuid": "GPU-x"}]}, "`count` excludes"),
    ],
)
def test_a_wrong_description_is_refused(nvml_machine: Make, tmp_path: Path, description: dict[str, Any], says: str) -> None:
    machine = nvml_machine("t4")
    before = machine.tool("show")
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(description))
    with pytest.raises(AssertionError, match=says):
        machine.tool("boot", path)
    assert machine.tool("show") == before


def test_unknown_machines_are_refused(nvml_machine: Make, tmp_path: Path) -> None:
    machine = nvml_machine("t4")
    with pytest.raises(AssertionError, match="neither a file nor one of .*hgx-h100"):
        machine.tool("boot", "dgx-1")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(AssertionError, match="broken.json"):
        machine.tool("boot", tmp_path / "broken.json")


def test_a_host_that_boots_reboots_its_gpus(nvml_machine: Make) -> None:
    machine = nvml_machine("t4")
    for name, boots in (("mixed", 1), ("mixed", 2), ("mixed.json", 3), ("hgx-h100", 1)):
        machine.tool("start", name)
        assert machine.tool("show")["boots"] == boots
    machine.state.unlink()
    machine.tool("start", "mixed")
    assert [one["mig"] is None for one in machine.tool("show")["gpus"]] == [True, False]


def test_the_tool_is_a_program(nvml_machine: Make) -> None:
    machine = nvml_machine("t4")
    shown = program("nvml-sim", machine, "show")
    assert (shown.returncode, json.loads(shown.stdout)) == (0, machine.tool("show"))
    refused = program("nvml-sim", machine, "reset", 9)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "nvml-sim: there is no GPU 9\n")
    assert program("nvml-sim", machine, "fly").returncode == 2
    machine.state.unlink()
    assert "`boot` makes it" in program("nvml-sim", machine, "show").stderr


def test_minors_are_numbered_as_the_driver_numbers_them(nvml_machine: Make) -> None:
    """The first lines are those of the MIG User Guide; each GPU has 135 numbers."""
    machine = nvml_machine("a100-40gb", count=2)
    lines = machine_text(machine, "mig-minors").splitlines()
    assert lines[:4] == ["config 1", "monitor 2", "gpu0/gi0/access 3", "gpu0/gi0/ci0/access 4"]
    assert {"gpu0/gi1/access 12", "gpu0/gi14/ci7/access 137", "gpu1/gi0/access 138"} <= set(lines)
    assert [int(line.split()[1]) for line in lines] == list(range(1, 273))


def machine_text(machine: Machine, command: str) -> str:
    return program("nvml-sim", machine, command).stdout


# --- the reader of Forja itself ------------------------------------------------------------------------------------------


def test_gpu_facts_reads_the_simulated_gpus(nvml_machine: Make) -> None:
    """The same reader that the module gpu_facts uses, with the real binding."""
    nvml_machine("a100-40gb")
    device = gpu(mig=True)
    create_compute(create(device, G3), 2)
    answer = nvml.read(__import__("pynvml"))
    (found,) = answer["gpus"]
    assert (answer["driver_version"], found["driver_name"], found["memory_mib"]) == ("580.65.06", "NVIDIA A100-SXM4-40GB", 40960)
    (instance,) = found["mig"]["instances"]
    assert (instance["gpu_instance"], instance["profile"], instance["placement"]) == (2, "3g.20gb", {"start": 4, "size": 4})


# --- nvidia-smi ----------------------------------------------------------------------------------------------------------


def test_smi_says_what_it_is_and_lists(nvml_machine: Make) -> None:
    machine = nvml_machine(**load("mixed"))
    device = gpu(1, mig=True)
    instance = create(device, G3)
    for part in (0, 1):
        create_compute(instance, part)
    create_compute(create(device, G1), 0)
    t4, a100 = machine.tool("show")["gpus"]
    uuids = [part["uuid"] for one in a100["instances"] for part in one["compute"]]
    listed = program("nvidia-smi", machine, "-L").stdout.splitlines()
    assert listed == [
        f"GPU 0: Tesla T4 (UUID: {t4['uuid']})",
        f"GPU 1: NVIDIA A100-PCIE-40GB (UUID: {a100['uuid']})",
        f"  MIG 1c.3g.20gb  Device  0: (UUID: {uuids[0]})",
        f"  MIG 2c.3g.20gb  Device  1: (UUID: {uuids[1]})",
        f"  MIG 1g.5gb      Device  2: (UUID: {uuids[2]})",
    ]
    for argument in ([], ["--version"]):
        assert program("nvidia-smi", machine, *argument).stdout.startswith("NVIDIA-SMI stand-in of Forja's lab")


@pytest.mark.parametrize("name", ["00000000:41:00.0", "0000:41:00.0", "1", "UUID"])
def test_smi_resets_the_gpus_it_is_told(nvml_machine: Make, name: str) -> None:
    machine = nvml_machine(**load("mixed"))
    create(gpu(1, mig=True), G3)
    uuid = machine.tool("show")["gpus"][1]["uuid"]
    told = program("nvidia-smi", machine, "-r", "-i", name.replace("UUID", uuid))
    assert (told.returncode, told.stdout) == (0, "GPU 00000000:41:00.0 was successfully reset.\nAll done.\n")
    assert machine.tool("show")["gpus"][1]["instances"] == []


def test_smi_refuses_a_busy_gpu(nvml_machine: Make) -> None:
    machine = nvml_machine("a100-40gb")
    machine.tool("process", "add", 0, os.getpid())
    told = program("nvidia-smi", machine, "--gpu-reset", "-i", "0")
    assert told.returncode == 255
    assert "could not be reset" in told.stdout
    assert "In use by another client" in told.stdout
    assert program("nvidia-smi", machine, "-r", "-i", "5").returncode == CODES["NOT_FOUND"]


def test_smi_without_a_driver(nvml_machine: Make) -> None:
    machine = nvml_machine("t4")
    machine.state.unlink()
    told = program("nvidia-smi", machine, "-L")
    assert told.returncode == CODES["DRIVER_NOT_LOADED"]
    assert "couldn't communicate with the NVIDIA driver" in told.stdout
