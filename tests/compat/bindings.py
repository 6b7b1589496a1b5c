#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the NVML simulator's tests with the bindings that Debian 12 and 13 have; `make unit` runs them with the newest one.

The folders pynvml-* pin them: Debian's packages carry these very files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
LOCKS = sorted((REPO / "tests" / "compat").glob("pynvml-*/requirements.lock"))
TESTS = ["tests/unit/test_nvml_simulator.py", "tests/unit/test_nvml_simulator_life.py"]


def main() -> int:
    for lock in LOCKS:
        target = REPO / ".cache" / lock.parent.name
        if not (target / "pynvml.py").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target)]
            subprocess.run([*pip, "--no-deps", "--require-hashes", "--requirement", str(lock)], check=True)
        print(f"The NVML simulator with {lock.parent.name}:", flush=True)
        # Before site-packages, where the newest one is.
        told = subprocess.run(
            [sys.executable, "-m", "pytest", *TESTS], cwd=REPO, env={**os.environ, "PYTHONPATH": str(target)}, check=False
        )
        if told.returncode != 0:
            return told.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
