# SPDX-License-Identifier: Apache-2.0
"""The role reboot in real runs on this machine, which Ansible never reboots: what it says, by what the roles before it have reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[3]
REASON = "NVIDIA 595.71.05 is not loaded yet"


def play(folder: Path, reasons: list[str], **variables: Any) -> subprocess.CompletedProcess[str]:
    reports = {"roles": {"nvidia_driver": {"summary": "so", "reboot": reasons}, "docker": {"summary": "so", "reboot": []}}}
    tasks = [
        {"name": "Report as roles do", "ansible.builtin.set_fact": {"forja_reports": reports}},
        {"name": "Reboot", "ansible.builtin.include_role": {"name": "reboot"}},
        {"name": "Show", "ansible.builtin.debug": {"msg": "{{ forja_reports.roles.reboot.summary }}"}},
    ]
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}]))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}}}}))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(folder / "hosts.yml"), str(folder / "play.yml")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("reasons", "variables", "summary"), [
    ([], {"forja_reboot": "if_required"}, "not required"),
    ([REASON], {}, f"required: {REASON} (Ansible runs on this host; reboot it yourself, then run again)"),
    ([REASON], {"forja_reboot": "if_required"}, f"required: {REASON} (Ansible runs on this host; reboot it yourself, then run again)"),
])
def test_what_it_says(tmp_path: Path, reasons: list[str], variables: dict[str, Any], summary: str) -> None:
    done = play(tmp_path, reasons, **variables)
    assert done.returncode == 0, done.stdout
    assert summary in " ".join(done.stdout.split())
    assert "Reboot the host" not in done.stdout
    assert "changed=0 " in done.stdout


def test_another_word_is_refused(tmp_path: Path) -> None:
    done = play(tmp_path, [], forja_reboot="always")
    assert done.returncode == 2, done.stdout
    assert "forja_reboot is always; expected never or if_required. Nothing was changed." in " ".join(done.stdout.split())
