# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of the NVML simulator and of MIG with the bindings of Debian 12 and 13; `make unit` runs them with the newest one.

The folders pynvml-* pin them: Debian's packages carry these very files.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.compat.pythons import HERE, REPO

LOCKS = sorted(HERE.glob("pynvml-*/requirements.lock"))
NAMES = ("lab/test_nvml_simulator", "lab/test_nvml_simulator_life", "mig/test_mig_node", "mig/test_mig_traps", "mig/test_gpu_mig")
# A failure at each single call takes minutes and shows nothing about the binding.
TESTS = [*(f"tests/unit/{name}.py" for name in NAMES), "-k", "not any_call"]


def main() -> int:
    for lock in LOCKS:
        target = REPO / ".cache" / lock.parent.name
        if not (target / "pynvml.py").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target)]
            subprocess.run([*pip, "--no-deps", "--require-hashes", "--requirement", str(lock)], check=True)
        print(f"The NVML simulator and MIG with {lock.parent.name}:", flush=True)
        # Before site-packages, where the newest one is.
        result = subprocess.run(
            [sys.executable, "-m", "pytest", *TESTS], cwd=REPO, env={**os.environ, "PYTHONPATH": str(target)}, check=False
        )
        if result.returncode != 0:
            return result.returncode
    return 0
