# SPDX-License-Identifier: Apache-2.0
"""The module nvml_binding: where pynvml comes from, and that the driver's packages are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.nvml import access as nvml_access
from plugins.module_utils.forja.nvml import binding as nvml_binding
from plugins.module_utils.forja.nvml.binding import DISTRIBUTION, ENVIRONMENT, VENV, YAML, State, comes_alone, plan
from plugins.modules import nvml_binding as module

WANTED = "nvidia-ml-py==13.615.71 --hash=sha256:95\n"
BARE = State(None, None, None, folder=False, harmless=False, venv=True, yaml=False)
OURS = nvml_access.PRIVATE + "/bin/python3"


@pytest.mark.parametrize(("state", "actions"), [
    (BARE, [ENVIRONMENT]),
    (BARE._replace(venv=False), [VENV, ENVIRONMENT]),
    (BARE._replace(harmless=True), [DISTRIBUTION]),
    (BARE._replace(interpreter="/usr/bin/python3"), []),
    (BARE._replace(interpreter=OURS, private=OURS, stamp=WANTED, folder=True), []),
    (BARE._replace(interpreter=OURS, private=OURS, stamp=WANTED, folder=True, harmless=True), []),
    (BARE._replace(interpreter=OURS, private=OURS, stamp="nvidia-ml-py==12\n", folder=True), [ENVIRONMENT]),
    # Cut off before its end, or left behind by an upgrade of the distribution's Python.
    (BARE._replace(interpreter=OURS, private=OURS, folder=True), [ENVIRONMENT]),
    (BARE._replace(folder=True, stamp=WANTED), [ENVIRONMENT]),
    (BARE._replace(interpreter="/usr/bin/python3", private=OURS, folder=True), []),
])
def test_plan(state: State, actions: list[str]) -> None:
    assert [step.action for step in plan(state, WANTED, True)] == actions
    assert [step.description for step in plan(state, WANTED, False)] == (["remove " + nvml_access.PRIVATE] if state.folder else [])


@pytest.mark.parametrize(("state", "actions"), [
    (BARE, [YAML, ENVIRONMENT]),
    (BARE._replace(interpreter="/usr/bin/python3"), [YAML]),
    (BARE._replace(interpreter="/usr/bin/python3", yaml=True), []),
])
def test_plan_with_yaml(state: State, actions: list[str]) -> None:
    assert [step.action for step in plan(state, WANTED, True, yaml=True)] == actions


@pytest.mark.parametrize(("simulated", "alone"), [
    ("Inst python3-pynvml (12.550.89-3 Debian:13.7/stable [amd64])\nConf python3-pynvml (12)\n", True),
    ("Inst libnvidia-ml1 (550.163.01-2 Debian)\nInst python3-pynvml (12.550.89-3 Debian)\n", False),
    ("Inst nvidia-alternative (550)\nInst python3-pynvml (12)\n", False),
    ("Inst libnvidia-compute-580 (580)\nInst python3-pynvml (12)\n", False),
    ("Remv libnvidia-compute-580 [580]\nInst python3-pynvml (12)\n", False),
    ("Remv something [1]\nInst python3-pynvml (12)\n", False),
    ("Inst python3-minimal (3.13)\nInst python3-pynvml (12)\n", True),
    ("", False),
])
def test_a_package_that_touches_the_driver_is_not_taken(simulated: str, alone: bool) -> None:
    assert comes_alone(simulated) is alone


@pytest.mark.parametrize(("version", "found"), [("3.13", OURS), ("3.11", None)])
def test_an_environment_is_of_one_python(tmp_path: Path, version: str, found: str | None) -> None:
    """pynvml lies in the folder of the Python that the environment was made with; the distribution's may be another by now."""
    base = tmp_path / "usr/bin"
    base.mkdir(parents=True)
    (base / "python3.13").touch()
    (base / "python3").symlink_to("python3.13")
    packages = tmp_path / f"opt/forja/python/lib/python{version}/site-packages"
    packages.mkdir(parents=True)
    (packages / "pynvml.py").touch()
    (tmp_path / "opt/forja/python/bin").mkdir()
    (tmp_path / "opt/forja/python/bin/python3").symlink_to("/usr/bin/python3")
    assert nvml_access.interpreter_with_binding(HostFiles(str(tmp_path))) == found


def test_the_distributions_python_comes_first(tmp_path: Path) -> None:
    for name in ("usr/bin/python3", "usr/lib/python3/dist-packages/pynvml.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert nvml_access.interpreter_with_binding(HostFiles(str(tmp_path))) == "/usr/bin/python3"


def test_pip_is_told_hashes_and_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_binding, "PRIVATE", str(tmp_path))
    monkeypatch.setattr(nvml_binding, "STAMP", str(tmp_path / "stamp"))
    asked: list[list[str]] = []

    def run(argv: list[str]) -> Result:
        asked.append(argv)
        return Result(0, "", "")

    nvml_binding.apply(run, [nvml_binding.Step(ENVIRONMENT, "")], WANTED)
    assert (tmp_path / "stamp").read_text() == WANTED
    pip = next(argv for argv in asked if "pip" in argv)
    assert "--require-hashes" in pip
    assert not [word for word in pip if "index" in word]


def test_the_words_of_pip_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_binding, "PRIVATE", str(tmp_path))
    with pytest.raises(ForjaError, match="(?s)pip install.*THESE PACKAGES DO NOT MATCH"):
        nvml_binding.apply(
            lambda argv: Result(1, "", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES") if "pip" in argv else Result(0, "", ""),
            [nvml_binding.Step(ENVIRONMENT, "")], WANTED,
        )


@pytest.mark.parametrize(("found", "changed"), [(BARE, True), (BARE._replace(interpreter="/usr/bin/python3"), False)])
def test_the_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: State, changed: bool) -> None:
    monkeypatch.setattr(module, "gather", lambda _run, _files: found)
    arguments = {"version": "13.615.71", "sha256": ["95"], "_ansible_check_mode": True}
    with patch_module_args(arguments), pytest.raises(SystemExit) as end:
        module.main()
    told = json.loads(capsys.readouterr().out)
    assert end.value.code == 0
    assert told["changed"] is changed
    assert told["interpreter"] == found.interpreter
