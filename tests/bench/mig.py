#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print what `python3 -m forja.mig` takes on eight simulated A100s: a run that changes nothing, and two full changes.

Each figure is of a whole process, the interpreter's start included: the median of the runs, and the least. The simulator answers at
once, so that these are the tool's own costs; a real driver adds its own to each call. The targets: under 0.2 s of wall clock and of
processor time and 300 calls where nothing changes, under 0.3 s for the changes. NVIDIA's mig-parted 0.15 was measured once, on such a
machine, against another NVML stand-in: 0.47 s, 0.62 s of processor time and 885 calls; 0.64 s; 0.54 s.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab.nvml.machine import Machine, build, mig_program  # noqa: E402

RUNS = 11
FILE = """version: v1
mig-configs:
  empty: [{devices: all, mig-enabled: true, mig-devices: {}}]
  seven: [{devices: all, mig-enabled: true, mig-devices: {1g.5gb: 7}}]
  balanced: [{devices: all, mig-enabled: true, mig-devices: {1g.5gb: 2, 2g.10gb: 1, 3g.20gb: 1}}]
"""


def run(env: dict[str, str], file: Path, label: str) -> tuple[float, float, int]:
    """Wall clock and processor time in seconds, and NVML calls, of one apply."""
    argv = [*mig_program(file.parent / "state"), "--calls", "apply", "-f", str(file), "-c", label]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, processor, int(done.stderr.splitlines()[-1].split()[0])


def main() -> None:
    build()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "mig.yaml"
        file.write_text(FILE)
        machine = Machine(folder, {"gpus": [{"model": "a100-40gb", "count": 8}]})
        env = {**machine.env, "PYTHONPATH": str(ROOT / "plugins/module_utils")}
        print(f"python3 -m forja.mig on 8 simulated A100s, {RUNS} runs each, load {os.getloadavg()[0]:.1f}")
        print(f"{'':34}{'wall s':>8}{'least':>8}{'cpu s':>8}{'least':>8}{'calls':>7}")
        for title, start, goal in (
            ("nothing to do", "seven", "seven"),
            ("empty to 7 x 1g.5gb on each", "empty", "seven"),
            ("balanced to 7 x 1g.5gb on each", "balanced", "seven"),
        ):
            figures = []
            for _ in range(RUNS):
                run(env, file, start)
                figures.append(run(env, file, goal))
            wall, processor, calls = zip(*figures, strict=True)
            middle = statistics.median
            print(f"{title:34}{middle(wall):8.3f}{min(wall):8.3f}{middle(processor):8.3f}{min(processor):8.3f}{calls[0]:7}")


if __name__ == "__main__":
    main()
