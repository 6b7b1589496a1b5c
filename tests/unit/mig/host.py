# SPDX-License-Identifier: Apache-2.0
"""A simulated host on which the MIG code runs in the tests' own process, and words to say what is wanted of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.mig.journal import Journal
from plugins.module_utils.forja.mig.node import Node, Outcome, pictures
from plugins.module_utils.forja.mig.nvml.gateway import Gateway
from tests.lab.nvml.machine import Machine
from tests.lab.nvml.nvml_sim.simulator import SimulatorError

GPU_IS_LOST, IN_USE, INSUFFICIENT, UNKNOWN = 15, 19, 23, 999
A100 = {"model": "a100-40gb"}
H100 = {"model": "h100-80gb-sxm"}
T4 = {"model": "t4"}


def entry(devices: Any, mig_devices: Any) -> dict[str, Any]:
    return {"devices": devices, "mig-enabled": True, "mig-devices": mig_devices}


def wanted(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"version": "v1", "mig-configs": {"wanted": list(entries)}}


SEVEN = wanted(entry("all", {"1g.5gb": 7}))
BALANCED = wanted(entry("all", {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}))
OFF = wanted({"devices": "all", "mig-enabled": False})
H_SEVEN = wanted(entry("all", {"1g.10gb": 7}))


class Host:
    """A simulated host and what is done with it."""

    def __init__(self, machine: Machine, folder: Path, files: HostFiles | None = None) -> None:
        self.machine = machine
        self.sim = machine.simulator
        self.folder = str(folder / "state")
        self.files = files
        self.resets: list[str] = []

    def session(self, work: Callable[[Node], Outcome]) -> Outcome:
        with Gateway(pynvml) as gateway:
            return work(Node(gateway, self.run, self.files))

    def apply(self, source: Any, label: str | None = None, *, reset: bool = False) -> Outcome:
        with Journal(self.folder, patience=0.2) as journal:
            return self.session(lambda node: node.apply(source, label, reset, journal, lambda message: None))

    def plan(self, source: Any, label: str | None = None, *, reset: bool = False) -> Outcome:
        with Journal(self.folder, patience=0.2).reading() as journal:
            return self.session(lambda node: node.plan(source, label, reset, journal.entries()))

    def is_settled(self, source: Any) -> bool:
        outcome = self.plan(source)
        return not (outcome.changed or outcome.reboot)

    def run(self, argv: list[str]) -> Result:
        """Stands for nvidia-smi, as far as it resets GPUs."""
        assert argv[:3] == ["nvidia-smi", "--gpu-reset", "-i"]
        self.resets.append(argv[3])
        try:
            self.sim.reset(argv[3].split(","))
        except SimulatorError as error:
            return Result(255, "", str(error))
        return Result(0, "", "")

    def state(self) -> list[Any]:
        """What the simulator holds, independent of our reading: modes, and instances with ids, placements and UUIDs."""
        return [(gpu["mig"], gpu["instances"]) for gpu in self.sim.show()["gpus"]]

    def sizes(self, gpu: int = 0) -> list[int]:
        return sorted(instance["size"] for instance in self.state()[gpu][1])

    def uuids(self, gpu: int) -> set[str]:
        return {compute["uuid"] for instance in self.state()[gpu][1] for compute in instance["compute"]}

    def changes(self) -> int:
        """Calls since the last look that could alter a GPU."""
        return int(self.sim.calls(reset=True)["changing"])


Boot = Callable[..., Host]


def drawn(host: Host, plan: Outcome) -> tuple[str, str]:
    with Gateway(pynvml) as gateway:
        return pictures(gateway, plan.plans)


def ask_for_no_mig(gpu: int) -> None:
    """Somebody does it by hand; with instances on the GPU it waits."""
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(gpu), 0) == IN_USE


def fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            work()
        finally:
            os._exit(0)
    return child


def dies(work: Callable[[], object]) -> bool:
    """Whether the work, in a process of its own, is killed."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1]) == -signal.SIGKILL
