# SPDX-License-Identifier: Apache-2.0
"""The MIG code against the NVML simulator: mode changes that wait, resets, reboots."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pynvml
import pytest

from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.mig.apply import ChangeError
from plugins.module_utils.forja.mig.journal import Journal
from plugins.module_utils.forja.mig.nvml import reset
from plugins.module_utils.forja.mig.nvml.gateway import Gateway
from plugins.module_utils.forja.mig.nvml.session import StoppedError
from tests.unit.mig.host import (
    A100,
    BALANCED,
    H100,
    H_SEVEN,
    IN_USE,
    INSUFFICIENT,
    OFF,
    SEVEN,
    UNKNOWN,
    Boot,
    ask_for_no_mig,
    entry,
    wanted,
)


def test_a_mode_that_needs_a_reset_waits_for_it(boot: Boot) -> None:
    host = boot({**A100, "passthrough": True})
    first = host.apply(SEVEN)
    assert first.changed
    assert "reset of the GPU or a reboot" in first.reboot[0]
    second = host.apply(SEVEN)
    assert not second.changed
    assert second.reboot
    host.sim.reboot()
    assert host.apply(SEVEN).changed
    assert host.sizes() == [1] * 7
    assert not host.apply(SEVEN).reboot


def test_a_refused_reset_becomes_one_reboot(boot: Boot) -> None:
    """In a virtual machine only the hypervisor can reset the GPU. The other GPU is done meanwhile."""
    host = boot({**A100, "passthrough": True}, A100)
    first = host.apply(SEVEN, reset=True)
    assert first.changed
    (reason,) = first.reboot
    assert reason.startswith("MIG mode of GPU 0 (0000:07:00.0) changes only with a reboot: Resetting 0000:07:00.0: ")
    assert (host.state()[0], host.sizes(1)) == (({"current": 0, "pending": 1}, []), [1] * 7)
    assert not Path(host.folder, "journal.json").exists()
    second = host.apply(SEVEN, reset=True)
    assert not second.changed
    assert second.reboot
    host.sim.reboot()
    assert host.apply(SEVEN, reset=True).reboot == ()
    assert host.sizes(0) == host.sizes(1) == [1] * 7


def test_where_a_reset_together_is_refused_each_gpu_is_tried_alone(boot: Boot) -> None:
    host = boot({**A100, "passthrough": True}, A100)
    host.sim.fault("nvmlDeviceSetMigMode", 2, "activation", 16)  # RESET_REQUIRED
    outcome = host.apply(SEVEN, reset=True)
    assert len(outcome.reboot) == 1
    assert host.resets == ["0000:07:00.0,0000:0f:00.0", "0000:07:00.0", "0000:0f:00.0"]
    assert (host.state()[0], host.sizes(1)) == (({"current": 0, "pending": 1}, []), [1] * 7)


def test_a_failure_beside_a_refused_reset_takes_the_pending_mode_back(boot: Boot) -> None:
    host = boot({**A100, "passthrough": True}, A100)
    before = host.state()
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(SEVEN, reset=True)
    assert caught.value.restored
    assert host.state() == before


def test_a_reset_only_when_allowed_and_only_of_that_gpu(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.apply(wanted(entry([1], {"7g.40gb": 1})))
    neighbour = host.uuids(1)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)  # RESET_REQUIRED
    outcome = host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True)
    assert outcome.changed
    assert not outcome.reboot
    assert host.resets == ["0000:07:00.0"]
    assert host.sizes(0) == [1] * 7
    assert host.uuids(1) == neighbour


def with_nvswitch(root: Path) -> HostFiles:
    switch = root / "sys/bus/pci/devices/0000:c4:00.0"
    switch.mkdir(parents=True)
    (switch / "vendor").write_text("0x10de\n")
    (switch / "class").write_text("0x068000\n")
    return HostFiles(str(root))


def test_gpus_of_one_fabric_are_reset_together(boot: Boot, tmp_path: Path) -> None:
    host = boot({**A100, "count": 2, "link_group": 1}, files=with_nvswitch(tmp_path / "tree"))
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    assert not host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True).reboot
    assert host.resets == ["0000:07:00.0,0000:0f:00.0"]
    assert host.sizes(0) == [1] * 7


def test_a_peer_that_would_be_reset_with_its_instances_is_spared(boot: Boot, tmp_path: Path) -> None:
    host = boot({**A100, "count": 2, "link_group": 1}, files=with_nvswitch(tmp_path / "tree"))
    host.apply(wanted(entry([1], {"7g.40gb": 1})))
    before = host.state()
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    (reason,) = host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True).reboot
    assert "only with a reboot: Resetting GPU 0: GPU 1 is on the same NVSwitches, must be reset with it, and holds MIG instances" in reason
    assert host.state() == [({"current": 0, "pending": 1}, []), before[1]]
    assert host.resets == []


def test_without_nvidia_smi_the_mode_waits_for_a_reboot(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot(A100)

    def missing(_argv: list[str]) -> Result:
        raise FileNotFoundError(2, "No such file or directory", "nvidia-smi")

    monkeypatch.setattr(host, "run", missing)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    (reason,) = host.apply(SEVEN, reset=True).reboot
    assert "nvidia-smi" in reason
    assert host.state() == [({"current": 0, "pending": 1}, [])]


@pytest.fixture
def stuck_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi that does not end by itself; the file gets its pid."""
    pid = tmp_path / "pid"
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return pid


def test_a_reset_that_hangs_is_given_up_and_put_back(boot: Boot, monkeypatch: pytest.MonkeyPatch, stuck_smi: Path) -> None:
    host = boot(A100)
    monkeypatch.setattr(reset, "SECONDS", 0.5)
    monkeypatch.setattr(host, "run", reset.run)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    with pytest.raises(ChangeError, match=r"Resetting 0000:07:00.0: nvidia-smi has not ended within 0.5 s.*put back"):
        host.apply(SEVEN, reset=True)
    assert host.state() == [({"current": 0, "pending": 0}, [])]
    assert not Path("/proc", stuck_smi.read_text().strip()).exists()


def test_a_reset_ends_with_us(monkeypatch: pytest.MonkeyPatch, stuck_smi: Path) -> None:
    """Else it would go on while everything is put back."""

    def stop(*_signal: Any) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(StoppedError):
        reset.run(["nvidia-smi", "--gpu-reset"])
    signal.signal(signal.SIGALRM, before)
    assert not Path("/proc", stuck_smi.read_text().strip()).exists()


def test_what_a_reset_says_and_its_exit_code() -> None:
    assert reset.run(["sh", "-c", "echo one; echo two >&2; exit 3"]) == Result(3, "one\ntwo\n", "")


def test_we_have_no_gpu_open_while_one_is_reset(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi refuses to reset a GPU that a client of NVML has open, and so it would for us. All handles are stale afterwards."""
    host = boot({**A100, "count": 2})
    host.apply(wanted(entry([1], {"1g.5gb": 7})))
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    reset = host.run

    def watched(argv: list[str]) -> Result:
        with pytest.raises(pynvml.NVMLError, match="Uninitialized"):
            pynvml.nvmlDeviceGetCount()
        host.sim.calls(reset=True)
        return reset(argv)

    monkeypatch.setattr(host, "run", watched)
    host.apply(BALANCED, reset=True)
    assert host.sizes(0) == host.sizes(1) == [1, 1, 2, 4]
    # The neighbour's mode stays; what goes there was looked up again.
    calls = [call["call"] for call in host.sim.calls()["log"] if call["gpu"] == 1]
    assert calls.index("nvmlGpuInstanceGetComputeInstances") < calls.index("nvmlComputeInstanceDestroy")


def test_a_gpu_that_a_reset_lost_is_not_taken_for_its_neighbour(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot({**A100, "count": 2})
    second = host.sim.show()["gpus"][1]

    def lost(argv: list[str]) -> Result:
        host.sim.boot({"gpus": [{**A100, "uuid": second["uuid"], "address": second["address"]}]}, os.geteuid())
        pynvml.nvmlInit()
        pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(0), 1)
        pynvml.nvmlShutdown()
        host.changes()
        return Result(0, "", "")

    monkeypatch.setattr(host, "run", lost)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    with pytest.raises(ChangeError, match="GPU 0: .*Not Found"):
        host.apply(wanted(entry([0], {"1g.5gb": 7})), reset=True)
    assert host.changes() == 0


def test_a_mode_that_waits_is_taken_back_without_touching_an_instance(boot: Boot) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    before = host.state()
    ask_for_no_mig(0)
    host.changes()
    assert host.apply(SEVEN).steps == ["GPU 0: enable MIG"]
    assert host.changes() == 1
    assert host.state() == before


@pytest.mark.parametrize("model", [A100, H100])
def test_a_mode_that_waits_for_instances_to_go_needs_no_reboot(boot: Boot, model: dict[str, Any]) -> None:
    """Somebody asked for no MIG without removing them first."""
    host = boot(model)
    host.apply(None, "all-balanced")
    ask_for_no_mig(0)
    outcome = host.apply(OFF)
    assert not outcome.reboot
    assert outcome.steps[-1] == "GPU 0: disable MIG"
    assert host.state() == [({"current": 0, "pending": 0}, [])]


@pytest.mark.parametrize("function", ["nvmlDeviceSetMigMode", "nvmlDeviceCreateGpuInstanceWithPlacement"])
def test_putting_back_a_mode_that_waited_touches_no_instance_that_was_right(boot: Boot, function: str) -> None:
    """The note of a GPU of which only the mode is wrong once knew nothing of its compute instances, and they were made anew."""
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    instances = host.state()[0][1]
    ask_for_no_mig(0)
    host.sim.calls(reset=True)
    host.sim.fault(function, 1, "code", UNKNOWN)
    with pytest.raises(ChangeError, match="put back as it was found.*after a reset of GPU 0") as caught:
        host.apply(wanted(entry([0], {"1g.5gb": 7}), entry([1], {"7g.40gb": 1})))
    assert caught.value.restored
    assert host.state()[0][1] == instances
    assert {call["call"] for call in host.sim.calls()["log"] if call["changing"] and call["gpu"] == 0} <= {"nvmlDeviceSetMigMode"}


def test_a_mode_that_we_asked_for_and_that_waits_is_taken_back(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    before = host.state()
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(wanted({"devices": [0], "mig-enabled": False}, entry([1], {"7g.40gb": 1})))
    assert caught.value.restored
    assert host.state() == before


@pytest.mark.parametrize("source", [OFF, SEVEN])
def test_what_took_a_reset_is_put_back_with_a_reset(boot: Boot, source: Any) -> None:
    host = boot({**A100, "count": 2})
    host.apply(source)
    before = host.state()
    target = BALANCED if source is OFF else wanted({"devices": [0], "mig-enabled": False}, entry([1], {"7g.40gb": 1}))
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", 16, times=0)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(target, reset=True)
    assert caught.value.restored
    assert host.state() == before


def test_what_cannot_be_put_back_without_a_reset_is_said(boot: Boot) -> None:
    host = boot({**A100, "count": 2})
    host.sim.fault("nvmlDeviceSetMigMode", 2, "activation", 16, times=0)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="failed too: the MIG mode of GPU 0 comes back only with a reset of the GPU or a reboot"):
        host.apply(wanted(entry([0], {"1g.5gb": 7})))


def test_a_mode_that_is_not_even_pending_is_a_failure(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reboot would be asked for at each run, for ever."""
    host = boot(A100)
    monkeypatch.setattr(Gateway, "set_mode", lambda *_arguments: 3)
    with pytest.raises(ChangeError, match="did not accept another MIG mode.*put back"):
        host.apply(SEVEN)


def test_a_terminal_that_is_gone_stops_nothing(boot: Boot) -> None:
    host = boot(A100)
    host.apply(SEVEN)

    def gone(_words: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with Journal(host.folder) as journal:
        assert host.session(lambda node: node.apply(BALANCED, None, False, journal, gone)).changed
    assert host.is_settled(BALANCED)


def test_what_took_every_step_and_is_not_there_is_a_failure(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    before = host.state()
    create = Gateway.create_compute
    lazy = iter([lambda *_arguments: None])
    monkeypatch.setattr(Gateway, "create_compute", lambda *arguments: next(lazy, create)(*arguments))
    with pytest.raises(ChangeError, match="took every step and is still not as wanted: add a compute instance of 2c.*put back"):
        host.apply(BALANCED)
    assert host.state() == before


def test_a_client_that_nobody_sees_leaves_no_pending_mode(boot: Boot) -> None:
    host = boot(A100)
    host.sim.fault("nvmlDeviceSetMigMode", 1, "activation", IN_USE)
    with pytest.raises(ChangeError, match="in use by a process that cannot be seen.*put back") as caught:
        host.apply(SEVEN)
    assert caught.value.restored
    assert host.state() == [({"current": 0, "pending": 0}, [])]


@pytest.mark.parametrize(("model", "source"), [(A100, SEVEN), (H100, H_SEVEN)])
def test_after_a_reboot_all_is_made_again(boot: Boot, model: dict[str, Any], source: Any) -> None:
    host = boot(model)
    host.apply(source)
    before = host.uuids(0)
    host.sim.reboot()
    assert host.uuids(0) == set()
    assert host.apply(source).changed
    assert host.uuids(0) == before
