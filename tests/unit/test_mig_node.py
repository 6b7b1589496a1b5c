# SPDX-License-Identifier: Apache-2.0
"""The MIG code from end to end against the NVML simulator: what it does, what it refuses, and what is left when it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from plugins.module_utils.forja.mig.change import BusyError, ChangeError
from plugins.module_utils.forja.mig.config import ConfigError
from plugins.module_utils.forja.mig.export import as_yaml, exported
from plugins.module_utils.forja.mig.gateway import Gateway, GatewayError
from plugins.module_utils.forja.mig.journal import Journal, JournalError
from plugins.module_utils.forja.mig.node import Node, Outcome, pictures
from plugins.module_utils.forja.mig.plan import PlanError

ROOT = Path(__file__).resolve().parents[2]
IN_USE, INSUFFICIENT, UNKNOWN = 19, 23, 999
A100 = {"model": "a100-40gb"}
H100 = {"model": "h100-80gb-sxm"}


def entry(devices: Any = "all", **rest: Any) -> dict[str, Any]:
    return {"devices": devices, "mig-enabled": True, **{key.replace("_", "-"): value for key, value in rest.items()}}


def wanted(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"version": "v1", "mig-configs": {"wanted": list(entries)}}


SEVEN = wanted(entry(mig_devices={"1g.5gb": 7}))
BALANCED = wanted(entry(mig_devices={"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}))
OFF = wanted({"devices": "all", "mig-enabled": False})


class Host:
    """A simulated host and the two things that are done with it: apply and look."""

    def __init__(self, simulator: Any, folder: Path) -> None:
        self.sim = simulator
        self.journal = folder / "state"
        self.commands: list[list[str]] = []

    def session(self, work: Callable[[Node], Outcome]) -> Outcome:
        with Gateway(pynvml) as gateway:
            return work(Node(gateway, self.run))

    def apply(self, source: Any, label: str | None = None, *, reset: bool = False) -> Outcome:
        with Journal(str(self.journal), patience=0.2) as journal:
            return self.session(lambda node: node.settle(source, label, reset, journal, lambda words: None))

    def plan(self, source: Any, label: str | None = None, *, reset: bool = False) -> Outcome:
        return self.session(lambda node: node.plan(source, label, reset, Journal(str(self.journal)).left()))

    def is_settled(self, source: Any, label: str | None = None) -> bool:
        outcome = self.plan(source, label)
        return not (outcome.changed or outcome.reboot)

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        """nvidia-smi, as far as it resets GPUs."""
        from tests.lab.nvml.nvml_sim.simulator import SimulatorError

        self.commands.append(argv)
        assert argv[:3] == ["nvidia-smi", "--gpu-reset", "-i"]
        try:
            self.sim.reset(argv[3].split(","))
        except SimulatorError as error:
            return 255, str(error), ""
        return 0, "", ""

    def layout(self) -> list[Any]:
        """What the simulator holds, independent of our reading: modes and instances with their compute instances, ids and all."""
        return [(gpu["mig"], gpu["instances"]) for gpu in self.sim.show()["gpus"]]

    def devices(self) -> list[dict[str, Any]]:
        with Gateway(pynvml) as gateway:
            return Node(gateway, self.run).devices()

    def changes(self) -> int:
        """Calls since the last look that could alter a GPU."""
        return int(self.sim.calls(reset=True)["changing"])


Boot = Callable[..., Host]


@pytest.fixture
def boot(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    from tests.lab.nvml.nvml_sim.simulator import Simulator

    def start(*gpus: dict[str, Any]) -> Host:
        path = tmp_path / "gpus"
        monkeypatch.setenv("FORJA_NVML_STATE", str(path))
        simulator = Simulator(path)
        simulator.boot({"driver": "580.65.06", "gpus": list(gpus)})
        return Host(simulator, tmp_path)

    return start


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to stand for a colleague's job."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


# What it does


def test_from_nothing_to_a_layout_and_back(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    assert host.apply(BALANCED).changed
    shapes = [sorted((one["start"], one["size"]) for one in instances) for _mode, instances in host.layout()]
    assert [[size for _start, size in shape] for shape in shapes] == [sorted_sizes(shape) for shape in shapes]
    assert all(sorted(size for _start, size in shape) == [1, 1, 2, 4] for shape in shapes)
    host.changes()
    again = host.apply(BALANCED)
    assert not again.changed
    assert host.changes() == 0
    assert host.apply(OFF).changed
    assert host.layout() == [({"current": 0, "pending": 0}, [])] * 2
    assert not host.apply(OFF).changed


def sorted_sizes(shape: list[tuple[int, int]]) -> list[int]:
    return [size for _start, size in sorted(shape)]
