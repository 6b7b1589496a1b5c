# SPDX-License-Identifier: Apache-2.0
"""The module wsl_conf: settings go in, and nothing else of the file changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.wsl.conf import entries, merge, plan
from plugins.modules import wsl_conf

SYSTEMD = {"boot": {"systemd": "true"}}
SOMEBODYS = "# mine\n[user]\ndefault=ana\n\n[network]\nhostname = desk # short\n"


@pytest.mark.parametrize(("before", "after"), [
    pytest.param("", "[boot]\nsystemd=true\n", id="no file"),
    pytest.param(SOMEBODYS, SOMEBODYS + "\n[boot]\nsystemd=true\n", id="other sections"),
    pytest.param("[boot]\nsystemd=false\n", "[boot]\nsystemd=true\n", id="switched off"),
    pytest.param("[Boot]\n  systemd = false # slow\n", "[Boot]\n  systemd = true # slow\n", id="case, spaces and comment"),
    pytest.param("[boot]\ncommand=service cron start\n\n[user]\ndefault=ana\n",
                 "[boot]\ncommand=service cron start\nsystemd=true\n\n[user]\ndefault=ana\n", id="end of its section"),
    pytest.param("[user]\nsystemd=true\n", "[user]\nsystemd=true\n\n[boot]\nsystemd=true\n", id="in another section"),
    pytest.param("[boot]\n#systemd=true\n", "[boot]\n#systemd=true\nsystemd=true\n", id="commented out"),
    pytest.param("[boot]\nsystemd=true\n[boot]\nsystemd=false\n", "[boot]\nsystemd=true\n[boot]\nsystemd=true\n", id="twice"),
    pytest.param("[boot]\r\nsystemd=false\r\n", "[boot]\r\nsystemd=true\r\n", id="edited in Windows"),
])
def test_merge(before: str, after: str) -> None:
    assert merge(before, SYSTEMD) == after
    assert plan(before, SYSTEMD)
    assert plan(after, SYSTEMD) == []


@pytest.mark.parametrize("text", ["[boot]\nsystemd=true\n", "[boot]\nsystemd = True", '[ boot ]\nsystemd="true" # yes\n'])
def test_a_file_that_says_so_already_has_no_steps(text: str) -> None:
    assert plan(text, SYSTEMD) == []


lines = st.lists(st.sampled_from(["[boot]", "[user]", "systemd=false", "systemd = true # x", "# note", "", "default=ana", "broken"]))


@given(lines)
def test_nothing_is_left_to_do_and_nothing_is_lost(some: list[str]) -> None:
    before = "\n".join(some) + "\n"
    after = merge(before, SYSTEMD)
    assert plan(after, SYSTEMD) == []
    kept = [(entry.section, entry.key, entry.value) for entry in entries(before) if (entry.section, entry.key) != ("boot", "systemd")]
    assert [(entry.section, entry.key, entry.value) for entry in entries(after)
            if (entry.section, entry.key) != ("boot", "systemd")] == kept
    assert [line for line in after.splitlines() if line.startswith("#")] == [line for line in some if line.startswith("#")]


def run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        wsl_conf.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_module_predicts_writes_and_is_idempotent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wsl.conf"
    path.write_bytes(b"# caf\xe9\n[user]\ndefault=ana\n")
    settings = {"settings": {"boot": {"systemd": True}}, "path": str(path)}
    predicted = run(capsys, **settings, _ansible_check_mode=True)
    assert path.read_bytes() == b"# caf\xe9\n[user]\ndefault=ana\n"
    done = run(capsys, **settings)
    assert predicted["steps"] == done["steps"] == ["add [boot] systemd=true"]
    assert path.read_bytes() == b"# caf\xe9\n[user]\ndefault=ana\n\n[boot]\nsystemd=true\n"
    assert run(capsys, **settings)["changed"] is False


def test_a_section_must_be_a_dictionary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, settings={"boot": "systemd=true"}, path=str(tmp_path / "wsl.conf"))
    assert result["failed"] is True
    assert result["msg"] == "settings: boot must be a dictionary of keys and values."
