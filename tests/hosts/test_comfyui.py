# SPDX-License-Identifier: Apache-2.0
"""ComfyUI: one release, whole, answering with the PyTorch that was chosen, and on loopback alone unless asked otherwise."""

import json
from typing import Any

import pytest

from tests.hosts.wanted import Wanted

pytestmark = [pytest.mark.role("comfyui"), pytest.mark.journal("comfyui.service")]
ROOT = "/opt/forja/comfyui"


@pytest.fixture(autouse=True)
def _left_out(variables: Wanted) -> None:
    if "workstation" in variables.roles and not variables.get("workstation_comfyui", False):
        pytest.skip("workstation_comfyui is false")


def test_service_runs_now_and_at_boot(host: Any) -> None:
    service = host.service("comfyui")
    assert service.is_running
    assert service.is_enabled


def test_one_release_is_there(host: Any, variables: Wanted) -> None:
    assert sorted(host.file(ROOT).listdir()) == sorted([variables["comfyui_version"], "current"])


def test_it_answers_with_a_device(host: Any, variables: Wanted) -> None:
    address = variables["comfyui_listen"].replace("0.0.0.0", "127.0.0.1")
    answer = json.loads(host.check_output(f"curl --silent --fail --max-time 30 http://{address}/system_stats"))
    assert variables["comfyui_version"].lstrip("v") in answer["system"]["comfyui_version"]
    assert answer["devices"], "PyTorch sees no device"


def test_only_root_writes_to_the_program(host: Any) -> None:
    assert host.file(f"{ROOT}/current/venv").user == "root"
    assert host.check_output("systemctl show comfyui.service --property=User --value") == "comfyui"
