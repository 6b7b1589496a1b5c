# SPDX-License-Identifier: Apache-2.0
"""`python3 -m forja.mig` as a program: its words, its exit codes, what it prints for other programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.lab.nvml.machine import Machine, mig_program

ROOT = Path(__file__).resolve().parents[3]
FILE = """version: v1
mig-configs:
  seven:
  - devices: all
    mig-enabled: true
    mig-devices: {1g.5gb: 7}
  balanced:
  - devices: all
    mig-enabled: true
    mig-devices: {1g.5gb: 2, 2g.10gb: 1, 3g.20gb: 1}
"""


class Program:
    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.file = folder / "mig.yaml"
        self.file.write_text(FILE)
        self.env = {**machine.env, "PYTHONPATH": str(ROOT / "module_utils")}
        self.start = mig_program(folder / "state")

    def __call__(self, *arguments: str, code: int = 0, given: str = "") -> subprocess.CompletedProcess[str]:
        argv = [*self.start, *(str(self.file) if word == "FILE" else word for word in arguments)]
        done = subprocess.run(argv, env=self.env, input=given, capture_output=True, text=True, errors="surrogateescape", check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done


@pytest.fixture
def program(nvml_machine: Callable[..., Machine], tmp_path: Path) -> Program:
    return Program(nvml_machine("a100-40gb", count=2), tmp_path)


def test_plan_apply_assert_export(program: Program) -> None:
    planned = program("plan", "-f", "FILE", "-c", "seven", code=1).stdout
    assert "GPU 0: enable MIG" in planned
    assert program.machine.simulator.calls()["changing"] == 0
    program("assert", "-f", "FILE", "-c", "seven", code=1)
    assert program("apply", "-f", "FILE", "-c", "seven").stdout == "seven: done\n"
    assert program("apply", "-f", "FILE", "-c", "seven").stdout == "seven: nothing to do\n"
    assert program("assert", "-f", "FILE", "-c", "seven").stdout == "seven: as wanted\n"
    assert "not as wanted: GPU 0: remove" in program("assert", "-f", "FILE", "-c", "balanced", code=1).stdout
    assert program("plan", "-f", "FILE", "-c", "seven").stdout == "0 steps\n"
    told = yaml.safe_load(program("export", "-c", "here").stdout)
    assert told == {"version": "v1", "mig-configs": {"here": [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}]}}
    assert json.loads(program("export", "-c", "here", "--json").stdout) == told


def test_standard_input_and_built_in_labels(program: Program) -> None:
    program("apply", "-f", "-", "-c", "balanced", given=FILE)
    program("assert", "-c", "all-balanced")
    program("apply", "-c", "all-disabled")
    assert program.machine.simulator.show()["gpus"][0]["mig"] == {"current": 0, "pending": 0}


def test_data_for_other_programs(program: Program) -> None:
    plan = json.loads(program("plan", "--json", "-c", "all-7g.40gb", code=1).stdout)
    assert plan["plan"][0] == {"action": "enable_mig", "gpu": 0, "gpu_uuid": program.machine.simulator.show()["gpus"][0]["uuid"]}
    assert json.loads(program("apply", "--json", "-c", "all-7g.40gb").stdout)["plan"] == plan["plan"]
    assert json.loads(program("assert", "--json", "-c", "all-7g.40gb").stdout)["as_wanted"] is True


@pytest.mark.parametrize(("command", "code"), [("plan", 1), ("apply", 0), ("assert", 0), ("export", 0)])
def test_a_reader_who_is_gone_changes_no_exit_code(program: Program, command: str, code: int) -> None:
    """As after `forja-mig plan | head -1`; of an apply code 7 would say that nothing was changed."""
    if command != "plan":
        program("apply", "-c", "all-balanced")
    reading, writing = os.pipe()
    os.close(reading)
    argv = [*program.start, command, "-c", "all-balanced"]
    assert subprocess.run(argv, env=program.env, stdout=writing, stderr=writing, check=False).returncode == code
    os.close(writing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("apply", "-f", "FILE", "-c", "sevn"), "sevn"),
        (("apply", "-f", "FILE"), "seven"),
        (("apply", "-f", "/nowhere/mig.yaml"), "/nowhere/mig.yaml cannot be read"),
        (("apply", "-c", "all-1g.7gb"), "all-1g.5gb"),
        (("apply",), "all-balanced"),
        (("apply", "-f", "-", "-c", "x"), "version"),
        (("frobnicate",), "invalid choice"),
    ],
)
def test_a_wrong_request_is_code_2(program: Program, arguments: tuple[str, ...], message: str) -> None:
    assert message in program(*arguments, code=2, given="mig-configs: {x: []}").stderr
    assert program.machine.simulator.calls()["changing"] == 0


def test_standard_input_is_utf_8_whatever_the_locale_is(program: Program) -> None:
    program.env["LC_ALL"] = "C"
    program("apply", "-f", "-", "-c", "seven", given="# für alle\n" + FILE)
    assert "- cannot be read: 'utf-8'" in program("apply", "-f", "-", given="\udcff", code=2).stderr  # a byte that is none


def test_a_busy_gpu_is_code_3(program: Program) -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as job:
        program.machine.simulator.process_add("1", job.pid)
        planned = program("plan", "-c", "all-balanced", code=1).stdout
        (foretold,) = json.loads(program("plan", "--json", "-c", "all-balanced", code=1).stdout)["blockers"]
        told = program("apply", "-c", "all-balanced", code=3).stderr
        job.kill()
    assert f"GPU 1: /bin/sleep (pid {job.pid})" in told
    assert f"Blocked by GPU 1: /bin/sleep (pid {job.pid})" in planned
    assert foretold["pid"] == job.pid


def test_a_failure_put_back_is_code_4_and_one_that_is_not_5(program: Program) -> None:
    program("apply", "-c", "all-1g.5gb")
    program.machine.simulator.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", 23)
    assert "put back" in program("apply", "-c", "all-balanced", code=4).stderr
    program("assert", "-c", "all-1g.5gb")
    program.machine.simulator.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", 23, times=0)
    assert "failed too" in program("apply", "-c", "all-balanced", code=5).stderr
    program.machine.simulator.clear_faults()
    program("apply", "-c", "all-balanced")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_is_stopped_puts_back_with_code_4(program: Program, number: signal.Signals) -> None:
    simulator = program.machine.simulator
    program("apply", "-c", "all-1g.5gb")
    before = simulator.show()["gpus"]
    simulator.calls(reset=True)
    simulator.fault("changing", 9, "delay", 2000)
    argv = [*program.start, "apply", "-c", "all-balanced"]

    def heard() -> None:
        """Whoever runs the tests may have told his children to ignore it, as nohup does."""
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    with subprocess.Popen(argv, env=program.env, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        while simulator.calls()["changing"] < 8:
            time.sleep(0.02)
        process.send_signal(number)
        told = process.communicate()[1]
    assert process.returncode == 4, told
    assert f"Stopped by {number.name}" in told
    assert "put back" in told
    assert simulator.show()["gpus"] == before


def test_what_is_stopped_while_it_puts_back_goes_on_with_that(program: Program) -> None:
    simulator = program.machine.simulator
    program("apply", "-c", "all-1g.5gb")
    before = simulator.show()["gpus"]
    simulator.calls(reset=True)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    simulator.fault(create, 1, "code", 23)
    simulator.fault(create, 2, "delay", 2000)
    argv = [*program.start, "apply", "-c", "all-balanced"]
    with subprocess.Popen(argv, env=program.env, stderr=subprocess.PIPE, text=True) as process:
        while simulator.calls()["counts"].get(create, 0) < 2:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        told = process.communicate()[1]
    assert process.returncode == 4, told
    assert "Insufficient Resources" in told
    assert "put back" in told
    assert simulator.show()["gpus"] == before


def test_a_plan_that_is_stopped_is_code_4_too(program: Program) -> None:
    """While NVML is being asked the signal once passed for an error of NVML."""
    program.machine.simulator.fault("nvmlDeviceGetGpuInstanceProfileInfo", 1, "delay", 2000)
    argv = [*program.start, "apply", "-c", "all-balanced"]
    with subprocess.Popen(argv, env=program.env, stderr=subprocess.PIPE, text=True) as process:
        while not program.machine.simulator.calls()["counts"].get("nvmlDeviceGetMigMode"):
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        told = process.communicate()[1]
    assert (process.returncode, told) == (4, "error: Stopped by SIGTERM before anything was changed\n")


def test_a_mode_that_waits_is_code_6(nvml_machine: Callable[..., Machine], tmp_path: Path) -> None:
    program = Program(nvml_machine("a100-40gb", passthrough=True), tmp_path)
    assert "Reboot required: MIG mode of GPU 0" in program("apply", "-c", "all-balanced", code=6).stdout
    program.machine.simulator.reboot()
    assert program("apply", "-c", "all-balanced").stdout == "all-balanced: done\n"


def test_no_nvml_is_code_7(program: Program, tmp_path: Path) -> None:
    program.env["FORJA_NVML_STATE"] = str(tmp_path / "none")
    assert "NVML does not start" in program("export", code=7).stderr
    program.env["PYTHONPATH"] += f":{tmp_path}"
    (tmp_path / "pynvml.py").write_text("raise ImportError('No module named pynvml')\n")
    assert "install python3-pynvml" in program("export", code=7).stderr


def test_at_boot_it_waits_for_the_driver(program: Program, tmp_path: Path) -> None:
    late = tmp_path / "late"
    program.env["FORJA_NVML_STATE"] = str(late)
    assert "trying again for 0.5 s" in program("apply", "--wait", "0.5", "-c", "all-balanced", code=7).stderr
    argv = [*program.start, "apply", "--wait", "60", "-c", "all-balanced"]
    with subprocess.Popen(argv, env=program.env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "trying again" in process.stderr.readline()
        shutil.copy(program.machine.state, tmp_path / "copy")
        (tmp_path / "copy").rename(late)
        process.communicate()
    assert process.returncode == 0
    program("assert", "-c", "all-balanced")


def test_the_calls_are_counted(program: Program) -> None:
    program("apply", "-c", "all-1g.5gb")
    before = program.machine.simulator.calls(reset=True)["total"]
    told = program("--calls", "apply", "-c", "all-1g.5gb").stderr
    assert before > 0
    assert told == f"{program.machine.simulator.calls()['total'] - 1} NVML calls\n"  # without the last, nvmlShutdown


@pytest.mark.parametrize(("command", "code"), [("apply", 0), ("assert", 0), ("plan", 0), ("export", 7)])
def test_output_that_cannot_be_written_changes_no_exit_code(program: Program, command: str, code: int) -> None:
    """Of an export the output is all there is, so that code says it."""
    program("apply", "-c", "all-balanced")
    if command == "apply":
        program("apply", "-c", "all-disabled")
    argv = [*program.start, command, "-c", "all-balanced"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, env=program.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "warning: standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    program("assert", "-c", "all-balanced")


def test_a_label_that_the_terminal_cannot_show(program: Program) -> None:
    program.env |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    text = "version: v1\nmig-configs: {größe-mittel: [{devices: all, mig-enabled: true, mig-devices: {1g.5gb: 7}}]}\n"
    assert program("apply", "-f", "-", given=text).stdout == "gr\\xf6\\xdfe-mittel: done\n"


def test_control_characters_do_not_reach_the_terminal(program: Program) -> None:
    text = json.dumps({"version": "v1", "mig-configs": {"\x1b[31mred": [{"devices": "all", "mig-enabled": False}]}})
    assert program("apply", "-f", "-", given=text).stdout == "\\x1b[31mred: nothing to do\n"


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e400", "-1", "soon"])
def test_a_time_to_wait_that_never_ends_is_refused(program: Program, seconds: str) -> None:
    assert "--wait" in program("apply", "-c", "all-balanced", f"--wait={seconds}", code=2).stderr


@pytest.mark.parametrize("text", ['{"a":' * 100_000, "- " * 100_000])
def test_hostile_input_is_code_2(program: Program, text: str) -> None:
    told = program("assert", "-f", "-", given=text, code=2).stderr
    assert told == "error: The configuration is nested more than 50 levels deep.\n"


def test_a_broken_journal_is_code_7(program: Program, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state/lock").touch()
    (tmp_path / "state/journal.json").write_text("[" * 100_000)
    assert "is not valid" in program("plan", "-c", "all-balanced", code=7).stderr
    assert "is not valid" in program("apply", "-c", "all-balanced", code=7).stderr


def test_a_defect_is_not_taken_for_gpus_that_are_not_as_wanted(program: Program, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('broken')\n")
    program.env["PYTHONPATH"] += f":{tmp_path}"
    program.env["PYTHONPATH"] = f"{tmp_path}:{program.env['PYTHONPATH']}"
    told = program("assert", "-c", "all-balanced", code=8).stderr
    assert "this is a defect of forja.mig: RuntimeError('broken')" in told


def test_readers_wait_for_an_apply_under_way(program: Program) -> None:
    """Without that, 7 of 200 answered that a compute instance was an invalid argument."""
    simulator = program.machine.simulator
    program("apply", "-c", "all-1g.5gb")
    simulator.calls(reset=True)
    simulator.fault("changing", 3, "delay", 1500)
    with subprocess.Popen([*program.start, "apply", "-c", "all-balanced"], env=program.env, stdout=subprocess.DEVNULL) as process:
        while simulator.calls()["changing"] < 2:
            time.sleep(0.02)
        assert program("assert", "-c", "all-balanced").stdout == "all-balanced: as wanted\n"
        assert program("plan", "-c", "all-balanced").stdout == "0 steps\n"
        program("export")
        process.communicate()
    assert process.returncode == 0


def test_who_may_not_read_the_lock_reads_again(program: Program) -> None:
    program("apply", "-c", "all-balanced")
    program.machine.simulator.fault("nvmlComputeInstanceGetInfo", 1, "code", 2)  # INVALID_ARGUMENT: it is gone meanwhile
    assert "remove GPU instance" in program("plan", "-c", "all-1g.5gb", code=1).stdout


def test_the_module_itself_runs(program: Program) -> None:
    argv = [sys.executable, "-m", "forja.mig", "--help"]
    told = subprocess.run(argv, env=program.env, capture_output=True, text=True, check=True).stdout
    assert "8 a defect" in told


def test_export_of_a_node_without_mig_is_a_file_that_apply_takes(nvml_machine: Callable[..., Machine], tmp_path: Path) -> None:
    program = Program(nvml_machine("t4"), tmp_path)
    text = program("export").stdout
    assert yaml.safe_load(text)["mig-configs"] == {"current": [{"devices": "all", "mig-enabled": False}]}
    assert program("apply", "-f", "-", given=text).stdout == "current: nothing to do\n"
