"""Hypothesis may take the time that a busy machine needs: no test of ours asserts a time. And simulated GPUs for whoever asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from plugins.module_utils.forja.host.files import HostFiles
from tests.lab.nvml import machine
from tests.unit.mig.host import Boot, Host

# The same examples at every run, so that a red one is about the change. To look for more: pytest --hypothesis-profile=default
settings.register_profile("forja", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("forja")


@pytest.fixture(scope="session")
def nvml_library() -> Path:
    """The simulator's libnvidia-ml.so.1, built."""
    return machine.build()


@pytest.fixture
def nvml_machine(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., machine.Machine]]:
    """Makes machines: `nvml_machine("a100-40gb", count=2)`, with any key of a GPU; or `nvml_machine(gpus=[...], driver=...)`.

    pynvml in the test's own process sees the one made last; programs see the one whose `env` they are given.
    """
    monkeypatch.setenv("FORJA_NVML_STATE", str(tmp_path / "none"))
    machine.leave()
    made: list[machine.Machine] = []

    def make(model: str | None = None, *, owner: int | None = None, **keys: Any) -> machine.Machine:
        description = keys if model is None else {"gpus": [{"model": model, **keys}]}
        folder = tmp_path / f"machine{len(made)}"
        folder.mkdir()
        made.append(machine.Machine(folder, description, owner))
        made[-1].enter()
        return made[-1]

    yield make
    machine.leave()


@pytest.fixture
def boot(nvml_machine: Callable[..., machine.Machine], tmp_path: Path) -> Boot:
    """Hosts for the MIG code: `boot({"model": "a100-40gb", "count": 2}, ...)`."""

    def start(*gpus: dict[str, Any], files: HostFiles | None = None, **rest: Any) -> Host:
        return Host(nvml_machine(gpus=list(gpus), **rest), tmp_path, files)

    return start


@pytest.fixture
def job() -> Iterator[int]:
    """The pid of a process that stands for a colleague's job."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "train.py"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder that everybody can reach: pytest's own are closed to others."""
    folder = tmp_path
    while folder != Path("/tmp"):  # noqa: S108
        folder.chmod(0o755)
        folder = folder.parent
    return tmp_path
