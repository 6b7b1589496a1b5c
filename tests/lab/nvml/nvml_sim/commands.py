# SPDX-License-Identifier: Apache-2.0
"""nvml-sim: the command line of the simulator. Messages go to stderr, data as JSON to stdout; 0 done, 1 refused, 2 wrong usage."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from .board import MachineError
from .layout import CODES
from .simulator import Simulator, SimulatorError, load

DEFAULT_STATE = "/var/lib/forja-nvml/state"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nvml-sim", description=f"Simulated GPUs, in $FORJA_NVML_STATE (or {DEFAULT_STATE}).")
    commands = parser.add_subparsers(dest="command", required=True)

    boot = commands.add_parser("boot", help="make a machine and switch it on")
    boot.add_argument("machine", help="a JSON file, or the name of one of the simulator's own machines")
    boot.add_argument("--owner", type=int, default=0, metavar="UID", help="a user with root's rights to the GPUs")
    start = commands.add_parser("start", help="for a host that boots: `reboot`, or the first time `boot`")
    start.add_argument("machine")
    commands.add_parser("reboot", help="the machine restarts")
    commands.add_parser("driver-reload", help="the kernel modules are unloaded and loaded")
    reset = commands.add_parser("reset", help="what nvidia-smi -r -i does")
    reset.add_argument("gpus", nargs="+", metavar="GPU", help="index, UUID or PCI address")

    process = commands.add_parser("process", help="a running process uses a GPU until it ends")
    process.add_argument("what", choices=["add", "remove"])
    process.add_argument("gpu", metavar="GPU")
    process.add_argument("pid", type=int)
    process.add_argument("--instance", type=int, metavar="GI")
    process.add_argument("--ci", type=int, metavar="CI")
    process.add_argument("--memory", type=int, default=0, metavar="MIB")

    fault = commands.add_parser("fault", help="make the nth call from now go wrong")
    fault.add_argument("functions", help="a function, a pattern, `any`, or `changing`")
    fault.add_argument("nth", type=int)
    fault.add_argument("action", help="an error (IN_USE or 19), delay=MS, kill, or activation=ERROR")
    fault.add_argument("--after", action="store_true", help="after the call has had its effect")
    fault.add_argument("--times", type=int, default=1, help="how many calls in a row; 0 for all")
    faults = commands.add_parser("faults", help="forget all faults")
    faults.add_argument("what", choices=["clear"])

    calls = commands.add_parser("calls", help="what was called, as JSON")
    calls.add_argument("--reset", action="store_true", help="count from 0 again")
    commands.add_parser("show", help="the GPUs with their instances, as JSON")
    commands.add_parser("mig-minors", help="what the driver says in /proc/driver/nvidia-caps/mig-minors")
    return parser


def parse_action(text: str) -> tuple[str, int]:
    """The action and its value of IN_USE, 19, delay=50, kill, activation=IN_USE."""
    kind, _, value = text.partition("=") if "=" in text or text == "kill" else ("code", "", text)
    if kind == "kill":
        return kind, 0
    if value.upper() in CODES and kind != "delay":
        return kind, CODES[value.upper()]
    if kind not in ("code", "delay", "activation") or not value.isdigit():
        raise SimulatorError(f"{text!r} is no error of NVML ({', '.join(CODES)}), nor delay=MS, kill or activation=ERROR")
    return kind, int(value)


def _run(simulator: Simulator, given: argparse.Namespace) -> Any:
    if given.command == "boot":
        return simulator.boot(load(given.machine), given.owner)
    if given.command == "start":
        return simulator.start(load(given.machine))
    if given.command == "reboot":
        return simulator.reboot()
    if given.command == "driver-reload":
        return simulator.driver_reload()
    if given.command == "reset":
        return simulator.reset(given.gpus)
    if given.command == "process" and given.what == "add":
        return simulator.process_add(given.gpu, given.pid, gi=given.instance, ci=given.ci, memory_mib=given.memory)
    if given.command == "process":
        return simulator.process_remove(given.gpu, given.pid)
    if given.command == "fault":
        action, value = parse_action(given.action)
        return simulator.fault(given.functions, given.nth, action, value, after=given.after, times=given.times)
    if given.command == "faults":
        return simulator.clear_faults()
    if given.command == "mig-minors":
        return simulator.mig_minors()
    return simulator.calls(reset=given.reset) if given.command == "calls" else simulator.show()


def simulator() -> Simulator:
    """The one that the environment names."""
    return Simulator(Path(os.environ.get("FORJA_NVML_STATE") or DEFAULT_STATE))


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        answer = _run(simulator(), given)
    except (SimulatorError, MachineError, OSError) as error:
        print(f"nvml-sim: {error}", file=sys.stderr)
        return 1
    if answer is not None:
        print(answer if isinstance(answer, str) else json.dumps(answer, indent=1), end="" if isinstance(answer, str) else "\n")
    return 0
