# SPDX-License-Identifier: Apache-2.0
"""Power limits: the cards have those of the inventory, and get them at each boot."""

from typing import Any

import pytest

from tests.hosts.wanted import Wanted

pytestmark = [pytest.mark.role("gpu_power"), pytest.mark.journal("forja-gpu-power.service")]
QUERY = "nvidia-smi --query-gpu=uuid,power.limit --format=csv,noheader,nounits"


@pytest.fixture(autouse=True)
def _left_out(host: Any, variables: Wanted) -> None:
    if "workstation" in variables.roles and not variables.get("workstation_gpu_power", False):
        pytest.skip("workstation_gpu_power is false")
    if not variables["gpu_power_limits"]:
        pytest.skip("gpu_power_limits is empty")
    if host.run("nvidia-smi --list-gpus").rc != 0:
        pytest.skip("no driver of NVIDIA's answers here")


def test_cards_have_their_limits(host: Any, variables: Wanted) -> None:
    limits = variables["gpu_power_limits"]
    for line in host.check_output(QUERY).splitlines():
        uuid, watts = (part.strip() for part in line.split(","))
        wanted = limits.get(uuid, limits.get("all"))
        assert wanted is None or abs(float(watts) - wanted) < 1, f"{uuid} may take {watts} W, the inventory says {wanted}"


def test_they_are_set_at_boot(host: Any) -> None:
    assert host.service("forja-gpu-power").is_enabled
