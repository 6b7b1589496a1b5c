# SPDX-License-Identifier: Apache-2.0
"""The module modprobe_config: the file for modprobe, and what the initial file systems know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.driver.modprobe import Place, State, plan
from plugins.module_utils.forja.host import atomic
from plugins.module_utils.forja.host.files import HostFiles
from plugins.modules import modprobe_config

PLACE = Place("no-nouveau")
FILE, KNOWN, TOOL = PLACE.file, PLACE.known, ["/usr/sbin/update-initramfs", "-u", "-k", "all"]


@pytest.mark.parametrize(("state", "content", "initramfs", "steps"), [
    (State(None, None, TOOL), "x", True, [f"write {FILE}", "rebuild the initramfs"]),
    (State(None, None, []), "x", True, [f"write {FILE}"]),  # a host without initial file systems
    (State("x", None, TOOL), "x", True, ["rebuild the initramfs"]),  # a run that was interrupted in between
    (State("x", "x", TOOL), "x", True, []),
    (State("x", "y", TOOL), "x", True, ["rebuild the initramfs"]),
    (State("x", "x", TOOL), None, False, [f"remove {FILE}"]),
    (State(None, "x", TOOL), None, True, ["rebuild the initramfs"]),
    (State(None, "x", []), None, True, [f"remove {KNOWN}"]),
    (State(None, None, TOOL), None, True, []),
])
def test_plan(state: State, content: str | None, initramfs: bool, steps: list[str]) -> None:
    assert plan(state, PLACE, content, initramfs) == steps


class Host:
    """A host below a folder, and an update-initramfs that can fail."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.rc, self.calls = root, 0, list[list[str]]()
        self.told: dict[str, Any] = {}
        write = atomic.replace
        monkeypatch.setattr(modprobe_config, "HostFiles", lambda _root: HostFiles(str(root)))
        monkeypatch.setattr(atomic, "replace", lambda path, content: write(str(root) + path, content))
        monkeypatch.setattr(AnsibleModule, "run_command", self.run)
        monkeypatch.setattr(AnsibleModule, "exit_json", self.leave)
        monkeypatch.setattr(AnsibleModule, "fail_json", self.leave)
        (root / "usr/sbin").mkdir(parents=True)
        (root / "usr/sbin/update-initramfs").touch()

    def leave(self, _module: Any = None, **result: Any) -> None:
        self.told = result
        raise SystemExit

    def run(self, argv: list[str], **_: Any) -> tuple[int, str, str]:
        self.calls.append(argv)
        return self.rc, "", "no space left"

    def play(self, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({"name": "no-nouveau", **arguments}), pytest.raises(SystemExit):
            modprobe_config.main()
        return self.told

    def has(self, path: str) -> bool:
        return (self.root / path.lstrip("/")).exists()


def test_module_writes_rebuilds_and_takes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, monkeypatch)
    assert host.play(content="blacklist nouveau\n", _ansible_check_mode=True)["changed"]
    assert (host.calls, host.has(FILE)) == ([], False)
    assert host.play(content="blacklist nouveau\n")["steps"] == [f"write {FILE}", "rebuild the initramfs"]
    assert (host.calls, host.has(KNOWN)) == ([TOOL], True)
    assert not host.play(content="blacklist nouveau\n")["changed"]
    assert host.play(state="absent", initramfs=False)["steps"] == [f"remove {FILE}"]
    assert (len(host.calls), host.has(FILE), host.has(KNOWN)) == (1, False, True)
    assert host.play(state="absent")["steps"] == ["rebuild the initramfs"]
    assert (len(host.calls), host.has(KNOWN)) == (2, False)


def test_module_rebuilds_again_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, monkeypatch)
    host.rc = 1
    assert "no space left" in host.play(content="x")["msg"]
    assert (host.has(FILE), host.has(KNOWN)) == (True, False)
    host.rc = 0
    assert host.play(content="x")["steps"] == ["rebuild the initramfs"]
