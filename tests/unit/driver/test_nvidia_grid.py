# SPDX-License-Identifier: Apache-2.0
"""The module nvidia_grid: Microsoft's installer on a host below a folder, with a made-up installer and DKMS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.driver.grid import GRIDD, LOG, TEMPLATE, UNINSTALLER, Request, command, installer, settings
from plugins.module_utils.forja.host import atomic
from plugins.module_utils.forja.host.files import HostFiles
from plugins.modules import nvidia_grid

VERSION, KERNEL = "595.58.03", "6.8.0-1030-azure"
LIBRARY = f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{VERSION}"


@pytest.mark.parametrize(("text", "wanted"), [
    ("ServerAddress=\nFeatureType=0\n#IgnoreSP=TRUE\n", "ServerAddress=\nIgnoreSP=FALSE\nEnableUI=FALSE\n"),
    ("IgnoreSP=FALSE\nEnableUI=FALSE\n", "IgnoreSP=FALSE\nEnableUI=FALSE\n"),
    ("# IgnoreSP is explained here\nIgnoreSP=TRUE\nIgnoreSP=TRUE\n", "# IgnoreSP is explained here\nIgnoreSP=FALSE\nEnableUI=FALSE\n"),
    ("", "IgnoreSP=FALSE\nEnableUI=FALSE\n"),
])
def test_settings_of_the_licence(text: str, wanted: str) -> None:
    assert settings(text) == wanted == settings(wanted)


@pytest.mark.parametrize(("request_", "options"), [
    (Request("595.58.03", "open"), ["--kernel-module-type=open"]),
    (Request("570.195.03", "proprietary", nouveau=True), ["--kernel-module-type=proprietary", "--no-nouveau-check", "--skip-module-load"]),
    (Request("550.144.06", "open", nouveau=True), ["-m=kernel-open", "--no-nouveau-check"]),
    (Request("550.144.06", "proprietary"), ["-m=kernel"]),
])
def test_options_of_the_installer(request_: Request, options: list[str]) -> None:
    assert command(request_) == ["sh", installer(request_.version), "--silent", "--dkms", *options]


class Host:
    """A host below a folder; `broken` is the program that fails on it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.broken, self.told = root, "", dict[str, Any]()
        write = atomic.replace
        monkeypatch.setattr(nvidia_grid, "HostFiles", lambda _root: HostFiles(str(root)))
        monkeypatch.setattr("plugins.modules.nvidia_grid.os.uname", lambda: type("Uname", (), {"machine": "x86_64"}))
        monkeypatch.setattr(atomic, "replace", lambda path, content: write(str(root) + path, content))
        monkeypatch.setattr(AnsibleModule, "run_command", self.run)
        monkeypatch.setattr(AnsibleModule, "exit_json", self.leave)
        monkeypatch.setattr(AnsibleModule, "fail_json", self.leave)
        self.write(installer(VERSION))

    def write(self, path: str, text: str = "") -> None:
        (self.root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path.lstrip("/")).write_text(text)

    def has(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()

    def leave(self, _module: Any = None, **result: Any) -> None:
        self.told = result
        raise SystemExit

    def run(self, argv: list[str], **_: Any) -> tuple[int, str, str]:
        if argv[0] == UNINSTALLER:
            for path in (UNINSTALLER, LIBRARY):
                (self.root / path.lstrip("/")).unlink(missing_ok=True)
            return 0, "", ""
        if argv[0] == "sh":
            self.write(LIBRARY)
            self.write(UNINSTALLER)
            self.write(TEMPLATE, "FeatureType=0\n")
            self.write(LOG, "-> fine\nERROR: it does not fit\n")
            self.write(f"/var/lib/dkms/nvidia/{VERSION}/source/dkms.conf")
        elif self.broken != argv[0]:
            (self.root / f"var/lib/dkms/nvidia/kernel-{KERNEL}-x86_64").symlink_to(f"{VERSION}/{KERNEL}/x86_64")
        return 1 if self.broken == argv[0] else 0, "", "no"

    def play(self, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            nvidia_grid.main()
        return self.told


def test_module_installs_predicts_and_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, wish = Host(tmp_path, monkeypatch), {"version": VERSION, "kernels": [KERNEL]}
    predicted = host.play(**wish, _ansible_check_mode=True)
    assert predicted["steps"] == ["run Microsoft's installer", f"write {GRIDD}"]
    assert not host.has(LIBRARY)
    assert host.play(**wish)["steps"] == predicted["steps"]
    assert host.has(LIBRARY)
    assert not host.has(installer(VERSION))
    assert (tmp_path / GRIDD[1:]).read_text() == "IgnoreSP=FALSE\nEnableUI=FALSE\n"
    assert not host.play(**wish)["changed"]
    host.write(installer(VERSION))  # as a run leaves it that was interrupted
    assert host.play(**wish)["steps"] == ["run Microsoft's installer"]
    assert host.play(state="absent")["changed"]
    assert not host.has(LIBRARY)
    assert not host.play(state="absent")["changed"]


@pytest.mark.parametrize(("broken", "message"), [("sh", "ERROR: it does not fit"), ("dkms", "DKMS cannot build")])
def test_module_removes_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, message: str) -> None:
    host = Host(tmp_path, monkeypatch)
    host.broken = broken
    assert message in host.play(version=VERSION, kernels=[KERNEL])["msg"]
    assert not any(host.has(path) for path in (LIBRARY, UNINSTALLER, installer(VERSION)))


def test_module_keeps_a_release_that_does_not_fit_a_newer_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, monkeypatch)
    host.play(version=VERSION, kernels=[KERNEL])
    host.broken = "dkms"
    assert "DKMS cannot build" in host.play(version=VERSION, kernels=[KERNEL, "6.11"])["msg"]
    assert host.has(LIBRARY)
