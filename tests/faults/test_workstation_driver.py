"""A workstation gets the driver only where one can be; everything else of the persona is not touched by that."""

from pathlib import Path

import pytest

from .drivers import Drivers

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)


def test_no_driver_where_no_gpu_is(tmp_path: Path) -> None:
    """In WSL2 neither; the lab has a host for that."""
    host = Drivers([HOST], tmp_path)
    host.put("no-gpu")
    try:
        output = host.passes(host.role("workstation", **host.facts))
    finally:
        host.take()
    assert "changed=0 " in output, output
    assert "TASK [docker : " in output
    assert "Choose the driver" not in output, "the role nvidia_driver ran"
