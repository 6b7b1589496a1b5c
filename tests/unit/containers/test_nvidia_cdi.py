# SPDX-License-Identifier: Apache-2.0
"""CDI specifications: reading what nvidia-ctk writes, and the plan that leaves exactly one of the loaded driver."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.containers import cdi
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.modules import nvidia_cdi as module

# The form that nvidia-ctk 1.18 and newer write, shortened.
YAML = """---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
    - name: GPU-5a4f1c3e-0000-1111-2222-333344445555
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
    - name: all
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    deviceNodes:
        - path: /dev/nvidiactl
    mounts:
        - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.126.20
          containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.126.20
"""
NAMES = ("0", "GPU-5a4f1c3e-0000-1111-2222-333344445555", "all")
GOOD = cdi.Spec(cdi.GENERATED, NAMES, "580.126.20", ())
BY_HAND = GOOD._replace(path="/etc/cdi/nvidia.yaml")


def test_reads_yaml_as_nvidia_ctk_writes_it() -> None:
    assert cdi.read_spec(cdi.GENERATED, YAML, lambda path: True) == GOOD


def test_reads_json() -> None:
    text = json.dumps({"kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}],
                       "containerEdits": {"mounts": [{"hostPath": "/usr/lib/libcuda.so.595.71.05"}]}}, indent=1)
    assert cdi.read_spec("/etc/cdi/x.json", text, lambda path: False) == cdi.Spec("/etc/cdi/x.json", ("0",), "595.71.05", ("/dev/nvidia0",))


@pytest.mark.parametrize("text", ["kind: vendor.com/net\ndevices: []\n", "", "not a specification", '{"kind": "nvidia.com/gds"}'])
def test_other_kinds_are_no_concern(text: str) -> None:
    assert cdi.read_spec("/etc/cdi/x.yaml", text, lambda path: True) is None


@pytest.mark.parametrize(("specs", "driver", "devices", "steps"), [
    pytest.param([GOOD], "580.126.20", [], [], id="fits"),
    pytest.param([], "580.126.20", [], ["refresh"], id="none yet"),
    pytest.param([], "", [], [], id="no driver is loaded"),
    pytest.param([GOOD], "595.71.05", [], ["refresh"], id="of another driver"),
    pytest.param([GOOD._replace(missing=("/dev/nvidia1",))], "580.126.20", [], ["refresh"], id="a device is gone"),
    pytest.param([GOOD], "580.126.20", ["0:0"], ["refresh"], id="a MIG device is missing"),
    pytest.param([GOOD], "580.126.20", ["0", "all"], [], id="the wanted devices are there"),
    pytest.param([BY_HAND, GOOD], "580.126.20", [], ["set aside"], id="two name the same device"),
    pytest.param([BY_HAND], "580.126.20", [], ["set aside", "refresh"], id="only the one made by hand"),
    pytest.param([GOOD._replace(driver=None)], "580.126.20", [], [], id="a file without libraries, as in WSL2"),
])
def test_plan(specs: list[cdi.Spec], driver: str, devices: list[str], steps: list[str]) -> None:
    assert [step.action for step in cdi.plan(cdi.State(tuple(specs), True), driver, devices)] == steps


def test_reasons_name_what_was_found() -> None:
    [step] = cdi.plan(cdi.State((GOOD,), True), "595.71.05")
    assert step.describe() == "refresh /var/run/cdi/nvidia.yaml: it is of driver 580.126.20, and 595.71.05 is loaded"


def test_a_toolkit_without_the_refresh_unit_is_named() -> None:
    with pytest.raises(ForjaError, match=r"1\.18 and newer"):
        cdi.apply(lambda argv: Result(0, "", ""), os.rename, cdi.State((), False), [cdi.Step(cdi.REFRESH, cdi.GENERATED, "")])


def test_a_refresh_that_fails_shows_the_journal() -> None:
    def run(argv: list[str]) -> Result:
        return Result(1, "", "Job failed.") if argv[1] == "restart" else Result(0, "ERROR_LIBRARY_NOT_FOUND\n", "")

    with pytest.raises(ForjaError, match="Job failed. Last lines of its journal:\nERROR_LIBRARY_NOT_FOUND"):
        cdi.apply(run, os.rename, cdi.State((), True), [cdi.Step(cdi.REFRESH, cdi.GENERATED, "")])


@pytest.mark.parametrize("shown", ["ConditionResult=no\nResult=success\n", "ConditionResult=yes\nResult=exec-condition\n"])
def test_a_unit_that_systemd_skips_says_what_it_expects(shown: str) -> None:
    """No nvidia-smi, or a driver of which the running kernel has no module: `systemctl restart` succeeds and nothing was written."""
    with pytest.raises(ForjaError, match="expects nvidia-smi, and the module nvidia in modules.dep"):
        cdi.apply(lambda argv: Result(0, shown, ""), os.rename, cdi.State((), True), [cdi.Step(cdi.REFRESH, cdi.GENERATED, "")])


def test_the_limit_of_starts_is_reset_before_the_refresh() -> None:
    """The path unit starts it too, so that a few changes in a row would make systemd refuse."""
    calls: list[list[str]] = []

    def run(argv: list[str]) -> Result:
        calls.append(argv)
        return Result(0, "", "")

    cdi.apply(run, os.rename, cdi.State((), True), [cdi.Step(cdi.REFRESH, cdi.GENERATED, "")])
    assert [argv[1] for argv in calls[:2]] == ["reset-failed", "restart"]


class Host:
    """A root folder with a refresh unit that writes YAML, and the module run on it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys, self.refreshed = root, capsys, 0
        for path in ("dev/nvidia0", "dev/nvidiactl", "usr/lib/systemd/system/nvidia-cdi-refresh.service"):
            self.write(path, "")
        monkeypatch.setattr(module, "HostFiles", lambda _root: HostFiles(str(root)))
        monkeypatch.setattr(module, "module_run", lambda _module: self.run)
        monkeypatch.setattr(module, "rename", lambda old, new: Path(f"{root}{old}").rename(f"{root}{new}"))

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def run(self, argv: list[str]) -> Result:
        assert (argv[0], argv[-1]) == ("systemctl", "nvidia-cdi-refresh.service")
        if argv[1] == "restart":
            self.refreshed += 1
            self.write("var/run/cdi/nvidia.yaml", YAML)
        return Result(0, "ConditionResult=yes\nResult=success\n" if argv[1] == "show" else "", "")

    def module(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({"_ansible_check_mode": check, **arguments}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return result


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path, monkeypatch, capsys)


def test_module_sets_aside_and_refreshes_once(host: Host) -> None:
    host.write("etc/cdi/nvidia.yaml", YAML)
    predicted = host.module(check=True, driver_version="580.126.20")
    assert (predicted["changed"], host.refreshed) == (True, 0)
    result = host.module(driver_version="580.126.20")
    assert result["steps"] == predicted["steps"]
    assert [spec["path"] for spec in result["specs"]] == ["/var/run/cdi/nvidia.yaml"]
    assert (host.root / "etc/cdi/nvidia.yaml.replaced-by-forja").read_text() == YAML
    assert host.module(driver_version="580.126.20")["changed"] is False
    assert host.refreshed == 1


def test_module_fails_where_the_refresh_does_not_help(host: Host) -> None:
    """nvidia-ctk finds the libraries of another driver than the loaded one: a half-done upgrade."""
    result = host.module(driver_version="595.71.05")
    assert result["failed"]
    assert "it is of driver 580.126.20, and 595.71.05 is loaded" in result["msg"]
