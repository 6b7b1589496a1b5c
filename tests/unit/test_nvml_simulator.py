# SPDX-License-Identifier: Apache-2.0
"""The NVML simulator, driven through NVIDIA's own Python binding."""

from __future__ import annotations

from collections.abc import Callable

import pynvml

from tests.lab.nvml.machine import Machine

Make = Callable[..., Machine]


def test_a_machine_answers(nvml_machine: Make) -> None:
    machine = nvml_machine("a100-40gb", count=2)
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() == len(machine.tool("show")["gpus"]) == 2
