"""A workstation gets the driver only where one can be; everything else of the persona is not touched by that."""

from pathlib import Path

import pytest

from .drivers import Drivers

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)


@pytest.mark.parametrize("name", ["wsl2-rtx4070", "no-gpu"])
def test_no_driver_where_none_can_be(name: str, tmp_path: Path) -> None:
    host = Drivers([HOST], tmp_path)
    host.put(name)
    try:
        output = host.passes(host.role("workstation", **host.facts))
    finally:
        host.take()
    assert "changed=0 " in output, output
    assert "TASK [docker : " in output
    assert "Choose the driver" not in output, "the role nvidia_driver ran"
