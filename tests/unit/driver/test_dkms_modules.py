# SPDX-License-Identifier: Apache-2.0
"""The module dkms_modules: which kernels lack a module, on trees of files, with a made-up dkms."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.driver import dkms
from plugins.module_utils.forja.driver.dkms import Source, apply, errors, gather, plan, steps
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.modules import dkms_modules

TOLD = ["nv-pci.c:237:9: error: too few arguments", "make: *** [modules] Error 2"]
NAME = "nvidia(-current)?(-open)?"


class Host:
    """DKMS's tree below a folder, and a dkms that builds into it or fails with a log."""

    def __init__(self, root: Path, broken: bool = False) -> None:
        self.root, self.broken, self.files = root / "var/lib/dkms", broken, HostFiles(str(root))

    def add(self, name: str, version: str, *kernels: str) -> None:
        (self.root / name / version).mkdir(parents=True, exist_ok=True)
        for kernel in kernels:
            link = self.root / name / f"kernel-{kernel}-x86_64"
            link.unlink(missing_ok=True)
            link.symlink_to(f"{version}/{kernel}/x86_64")

    def run(self, argv: list[str]) -> Result:
        name, version, kernel = argv[3], argv[5], argv[7]
        if self.broken:
            log = self.root / name / version / "build/make.log"
            log.parent.mkdir(parents=True)
            log.write_text("\n".join(["  gcc -Werror=undef " + "x" * 3000, *TOLD]) + "\n")
            return Result(10, "", "Error! Bad return status")
        self.add(name, version, kernel)
        return Result(0, "", "")


@pytest.mark.parametrize(("known", "kernels", "wanted"), [
    ([], ["6.1"], []),
    ([("nvidia", "580.95.05", [])], [], []),
    ([("nvidia", "580.95.05", ["6.1"])], ["6.1"], []),
    ([("nvidia", "580.95.05", ["6.1"])], ["6.1", "6.12"], ["build nvidia 580.95.05 for 6.12"]),
    ([("nvidia", "580.95.05", ["6.1"]), ("nvidia", "580.126.20", [])], ["6.1"], ["build nvidia 580.126.20 for 6.1"]),
    ([("nvidia-current-open", "550.163.01", []), ("zfs", "2.3", [])], ["6.12"], ["build nvidia-current-open 550.163.01 for 6.12"]),
])
def test_plan(tmp_path: Path, known: list[tuple[str, str, list[str]]], kernels: list[str], wanted: list[str]) -> None:
    host = Host(tmp_path)
    for name, version, built in known:
        host.add(name, version, *built)
    todo = plan(gather(host.files, NAME), kernels)
    assert steps(todo) == wanted
    apply(host.run, host.files, todo)
    assert plan(gather(host.files, NAME), kernels) == {}


def test_a_newer_version_whose_source_is_gone_does_not_count(tmp_path: Path) -> None:
    """As an interrupted downgrade leaves it; DKMS could not build it for any kernel."""
    host = Host(tmp_path)
    host.add("nvidia", "580.95.05", "6.1")
    (host.root / "nvidia/580.95.05/source").mkdir()
    host.add("nvidia", "595.71.05")
    (host.root / "nvidia/595.71.05/source").symlink_to("/usr/src/nvidia-595.71.05")
    assert gather(host.files, NAME) == [Source("nvidia", "580.95.05", ["6.1"])]


def test_a_failed_build_tells_the_compilers_words(tmp_path: Path) -> None:
    host = Host(tmp_path, broken=True)
    host.add("nvidia", "550.163.01")
    with pytest.raises(ForjaError, match="too few arguments\nmake: ..."):
        apply(host.run, host.files, plan(gather(host.files, NAME), ["6.12"]))
    assert errors(host.files, Source("nvidia", "550.163.01", [])) == TOLD


@pytest.mark.parametrize(("check", "built"), [(True, []), (False, ["6.12"])])
def test_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], check: bool, built: list[str]
) -> None:
    host = Host(tmp_path)
    host.add("nvidia", "580.95.05")
    monkeypatch.setattr(dkms_modules, "HostFiles", lambda _root: host.files)
    monkeypatch.setattr(AnsibleModule, "run_command", lambda _self, argv, **_: host.run(argv))
    with patch_module_args({"name": NAME, "kernels": ["6.12"], "_ansible_check_mode": check}), pytest.raises(SystemExit) as end:
        dkms_modules.main()
    assert end.value.code == 0
    assert '"changed": true' in capsys.readouterr().out
    assert gather(host.files, NAME) == [Source("nvidia", "580.95.05", built)]


def test_the_module_wants_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(dkms_modules, "HostFiles", lambda _root: HostFiles(str(tmp_path)))
    with patch_module_args({"name": NAME, "kernels": ["6.12"]}), pytest.raises(SystemExit) as end:
        dkms_modules.main()
    assert end.value.code == 1
    assert "DKMS knows no module" in capsys.readouterr().out
    assert dkms.TREE == "/var/lib/dkms"
