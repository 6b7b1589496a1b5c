# SPDX-License-Identifier: Apache-2.0
"""Simulated machines for tests: the library built once, and for each machine a state of its own."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .nvml_sim.commands import main
from .nvml_sim.simulator import Simulator

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parents[2] / ".cache" / "nvml" / "libnvidia-ml.so.1"
UNINITIALIZED = 1


def build() -> Path:
    """Bring the library up to date and return it; who asks at the same time waits."""
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    with (LIBRARY.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = subprocess.run([str(HERE / "build.sh"), str(LIBRARY.parent)], capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise RuntimeError(f"The NVML simulator was not built:\n{told.stdout}{told.stderr}")
    return LIBRARY


class Machine:
    """A simulated machine. Programs started with `env` see its GPUs; so does pynvml in this process once `enter` was called."""

    def __init__(self, folder: Path, description: dict[str, Any], owner: int | None = None) -> None:
        self.state = folder / "nvml-state"
        self.simulator = Simulator(self.state)
        # The user who runs the tests has root's rights to the GPUs, root or not.
        self.simulator.boot(description, os.geteuid() if owner is None else owner)

    @property
    def variables(self) -> dict[str, str]:
        return {"FORJA_NVML_STATE": str(self.state), "LD_LIBRARY_PATH": str(LIBRARY.parent)}

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.variables}

    def tool(self, *arguments: object) -> Any:
        """Run `nvml-sim` and return the data that it prints; a refusal is an AssertionError with its message."""
        out, err = io.StringIO(), io.StringIO()
        before = os.environ.get("FORJA_NVML_STATE")
        os.environ["FORJA_NVML_STATE"] = str(self.state)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main([str(argument) for argument in arguments])
        finally:
            if before is None:
                del os.environ["FORJA_NVML_STATE"]
            else:
                os.environ["FORJA_NVML_STATE"] = before
        assert status == 0, err.getvalue()
        return json.loads(out.getvalue()) if out.getvalue() else None

    def enter(self) -> None:
        """Let NVML in this process see this machine, whatever it saw before."""
        leave()
        os.environ["FORJA_NVML_STATE"] = str(self.state)


def mig_program(state: Path) -> list[str]:
    """Return the command line of `python3 -m forja.mig` with another folder for its lock and journal than that of this machine."""
    code = "import sys; from forja.mig import __main__ as program, journal; journal.STATE = sys.argv.pop(1); sys.exit(program.main())"
    return [sys.executable, "-c", code, str(state)]


def leave() -> None:
    """Undo every nvmlInit of this process."""
    library = ctypes.CDLL(str(LIBRARY))  # loaded once; pynvml then finds it by its name
    while library.nvmlShutdown() != UNINITIALIZED:
        pass
