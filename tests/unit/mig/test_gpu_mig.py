# SPDX-License-Identifier: Apache-2.0
"""The module gpu_mig as Ansible calls it: what it returns, in check and diff mode too, and how it fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.modules import gpu_mig
from tests.unit.mig.host import A100, BALANCED, SEVEN, Boot


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr("plugins.module_utils.forja.mig.journal.STATE", str(tmp_path / "state"))

    def module(**arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            gpu_mig.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return module


def test_check_mode_foretells_the_run(boot: Boot, run: Any) -> None:
    host = boot({**A100, "count": 2})
    foretold = run(config=SEVEN, _ansible_check_mode=True, _ansible_diff=True)
    assert host.changes() == 0
    done = run(config=SEVEN, _ansible_diff=True)
    again = run(config=SEVEN, _ansible_diff=True)
    assert (foretold["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert foretold["plan"] == done["plan"]
    assert foretold["steps"] == done["steps"]
    assert foretold["diff"] == done["diff"]
    assert again["diff"] == {"before": "", "after": ""}
    assert foretold["blockers"] == []
    assert foretold["obstacle"] == ""
    assert "after" not in foretold


def test_the_diff_is_a_picture(boot: Boot, run: Any) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    diff = run(config=BALANCED, _ansible_check_mode=True, _ansible_diff=True)["diff"]
    assert diff["before"].startswith("GPU 0 NVIDIA A100-SXM4-40GB (0000:07:00.0)\n")
    assert diff["before"].count("1g.5gb") == 7
    assert diff["after"].count("1g.5gb") == 2
    assert "3g.20gb" in diff["after"]


def test_what_it_returns(boot: Boot, run: Any) -> None:
    host = boot(A100)
    told = run(config=BALANCED)
    assert told["label"] == "wanted"
    assert told["before"]["mig-configs"]["current"] == [{"devices": "all", "mig-enabled": False}]
    assert told["after"]["mig-configs"]["current"][0]["mig-devices"] == {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
    assert {device["uuid"] for device in told["devices"]} == host.uuids(0)
    assert told["plan"][0]["action"] == "enable_mig"
    assert told["steps"][0] == "GPU 0: enable MIG"
    assert told["reboot_required"] is False
    # What was returned counts all but the last call, nvmlShutdown.
    assert host.sim.calls()["total"] - 1 == told["nvml_calls"]


def test_text_and_built_in_labels(boot: Boot, run: Any) -> None:
    host = boot(A100)
    assert run(config=json.dumps(SEVEN), selected="wanted")["changed"] is True
    assert run(selected="all-1g.5gb")["changed"] is False
    assert run(selected="all-disabled")["changed"] is True
    assert host.state() == [({"current": 0, "pending": 0}, [])]


def test_somebody_in_the_way(boot: Boot, run: Any) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    host.sim.process_add("0", os.getppid(), gi=host.state()[0][1][0]["id"], ci=0)
    foretold = run(selected="all-7g.40gb", _ansible_check_mode=True)
    assert [blocker["pid"] for blocker in foretold["blockers"]] == [os.getppid()]
    told = run(selected="all-7g.40gb")
    assert told["failed"] is True
    assert told["blockers"] == foretold["blockers"]
    assert f"pid {os.getppid()}" in told["msg"]


def test_a_failure_says_whether_all_was_put_back(boot: Boot, run: Any) -> None:
    host = boot(A100)
    host.apply(SEVEN)
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", 23)
    told = run(config=BALANCED)
    assert told["failed"] is True
    assert told["restored"] is True
    assert "Insufficient Resources" in told["msg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {"version": "v1", "mig-configs": {"x": [{"devices": "all", "mig-enabled": True, "mig-device": {}}]}}}, "mig-devices"),
        ({"selected": "all-3g.40gb"}, "all-3g.20gb"),
        ({}, "all-balanced"),
    ],
)
def test_a_wrong_request(boot: Boot, run: Any, arguments: dict[str, Any], message: str) -> None:
    boot(A100)
    told = run(**arguments)
    assert told["failed"] is True
    assert message in told["msg"]


def test_no_driver(boot: Boot, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot(A100).machine.enter()
    monkeypatch.setenv("FORJA_NVML_STATE", str(tmp_path / "none"))
    told = run(selected="all-balanced")
    assert told["failed"] is True
    assert "NVML does not start" in told["msg"]


@pytest.mark.parametrize(("arguments", "steps"), [
    ({"selected": "all-balanced"}, ["partition the GPUs"]),
    ({"config": SEVEN}, ["partition the GPUs"]),
    ({"config": "version: v1"}, ["partition the GPUs"]),
    ({"selected": "all-disabled"}, []),
])
def test_check_mode_before_the_driver_is_there(
    boot: Boot, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], steps: list[str]
) -> None:
    """A persona validates its blocks, and a check predicts a whole host, while the driver is still to be installed."""
    boot(A100).machine.enter()
    monkeypatch.setenv("FORJA_NVML_STATE", str(tmp_path / "none"))
    foretold = run(**arguments, _ansible_check_mode=True)
    assert (foretold["changed"], foretold["steps"], foretold["blockers"]) == (bool(steps), steps, [])
    assert "NVML does not start" in foretold["obstacle"]


def test_check_mode_before_the_driver_is_there_reads_the_form(
    boot: Boot, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(A100).machine.enter()
    monkeypatch.setenv("FORJA_NVML_STATE", str(tmp_path / "none"))
    told = run(config={"version": "v2"}, _ansible_check_mode=True)
    assert told["failed"] is True
    assert "Missing `version: v1`" in told["msg"]


def test_check_mode_without_any_binding(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_mig, "binding", lambda *_arguments: None)
    assert "No Python of this host has pynvml" in run(selected="all-balanced", _ansible_check_mode=True)["obstacle"]
    assert "No Python of this host has pynvml" in run(selected="all-balanced")["msg"]
