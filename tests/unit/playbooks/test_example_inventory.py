# SPDX-License-Identifier: Apache-2.0
"""inventories/example as copied: it names this machine, and Ansible runs there with the distribution's Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[3]
EXAMPLE = REPO / "inventories/example"


def ansible(program: str, *arguments: str, path: str = "") -> str:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PATH": path + os.environ["PATH"]}
    command = [str(Path(sys.executable).with_name(program)), f"--inventory={EXAMPLE}", *arguments]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def host() -> dict[str, Any]:
    variables = json.loads(ansible("ansible-inventory", "--list"))["_meta"]["hostvars"]
    assert list(variables) == ["mybox"]
    return dict(variables["mybox"])


def test_modules_run_although_another_python_is_first_in_path(tmp_path: Path) -> None:
    """As in a shell with pyenv, or with .venv active: there `python3` has no python3-apt."""
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho not the distribution >&2\nexit 3\n")
    other.chmod(0o755)
    assert "pong" in ansible("ansible", "mybox", "-m", "ansible.builtin.ping", "--extra-vars", "ansible_become=false", path=f"{tmp_path}:")


def test_it_gives_docker_to_no_user_that_may_not_exist(host: dict[str, Any]) -> None:
    assert host["docker_users"] == []


def test_it_names_no_server_of_a_site(host: dict[str, Any]) -> None:
    assert not {"forja_mirror", "forja_registry"} & set(host)
