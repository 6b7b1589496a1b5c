# SPDX-License-Identifier: Apache-2.0
"""What a host must look like that the role reboot was on: booted, and with no reboot of Forja's pending."""

from typing import Any

import pytest

pytestmark = pytest.mark.role("reboot")


def test_the_host_has_booted(host: Any) -> None:
    assert host.run("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded")
    assert "reboot.target" not in host.check_output("systemctl list-jobs")
