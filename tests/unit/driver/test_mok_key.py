# SPDX-License-Identifier: Apache-2.0
"""The module mok_key: the key that DKMS signs with, and a firmware that is asked to trust it, with a made-up mokutil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.driver.mok import MAKE, OTHERS, UBUNTU, State, find, path, plan
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.modules import mok_key

PASSWORD = "a-word-for-the-console"  # noqa: S105  (of a made-up firmware)
TEST_KEY = {"missing": "is not enrolled", "staged": "is already in the enrollment request", "enrolled": "is already enrolled"}


@pytest.mark.parametrize(("state", "steps"), [
    (State(False, "missing"), [f"make the key {OTHERS}", "ask the firmware to enrol it at the next boot"]),
    (State(True, "missing"), ["ask the firmware to enrol it at the next boot"]),
    (State(True, "staged"), []),
    (State(True, "enrolled"), []),
])
def test_plan(state: State, steps: list[str]) -> None:
    assert plan(state, OTHERS) == steps


class Host:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.trust, self.broken, self.fed, self.told = root, "missing", "", "", dict[str, Any]()
        self.calls: list[list[str]] = []
        monkeypatch.setattr(mok_key, "HostFiles", lambda _root: HostFiles(str(root)))
        monkeypatch.setattr(AnsibleModule, "run_command", self.run)
        monkeypatch.setattr(AnsibleModule, "exit_json", self.leave)
        monkeypatch.setattr(AnsibleModule, "fail_json", self.leave)
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/mokutil").touch()

    def leave(self, _module: Any = None, **result: Any) -> None:
        self.told = result
        raise SystemExit

    def run(self, argv: list[str], data: str = "", **_: Any) -> tuple[int, str, str]:
        self.calls.append(argv)
        if self.broken and self.broken in argv:
            return 1, "", "the firmware has no room"
        if argv in MAKE.values():
            for key in (OTHERS, UBUNTU):
                (self.root / key[1:]).parent.mkdir(parents=True, exist_ok=True)
            (self.root / next(key for key, make in MAKE.items() if make == argv)[1:]).touch()
        if "--import" in argv:
            self.trust, self.fed = "staged", data
        return 0, TEST_KEY[self.trust], ""

    def play(self, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({"distribution": "Debian", "password": PASSWORD, **arguments}), pytest.raises(SystemExit):
            mok_key.main()
        return self.told


@pytest.mark.parametrize("distribution", ["Debian", "Ubuntu"])
def test_module_stages_a_new_key_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str) -> None:
    host = Host(tmp_path, monkeypatch)
    assert host.play(distribution=distribution, _ansible_check_mode=True)["changed"]
    assert host.calls == []
    staged = host.play(distribution=distribution)
    assert (staged["changed"], staged["trust"], staged["path"]) == (True, "staged", path(distribution))
    assert host.fed == f"{PASSWORD}\n{PASSWORD}\n"
    assert not any(PASSWORD in word for argv in host.calls for word in argv), "every user of the host could read it"
    assert not host.play(distribution=distribution)["changed"]
    host.trust = "enrolled"
    assert host.play(distribution=distribution)["trust"] == "enrolled"
    assert find(lambda argv: Result(*host.run(argv)), HostFiles(str(tmp_path))) == ("enrolled", path(distribution))


@pytest.mark.parametrize(("broken", "message"), [("openssl", "could not be made"), ("--import", "could not be staged")])
def test_module_says_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, message: str) -> None:
    host = Host(tmp_path, monkeypatch)
    host.broken = broken
    assert f"{message}: the firmware has no room" in host.play()["msg"]
