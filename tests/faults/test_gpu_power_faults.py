"""Power limits on a host whose nvidia-smi is a stand-in with one card: set, kept over a boot, refused, and away again."""

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
# Stand-in of the Forja lab for nvidia-smi: what it has set is forgotten when /run is.
STANDIN = r"""#!/bin/sh
# Stand-in of the Forja lab for nvidia-smi: one card, whose limit is in a file that a boot removes.
limit=$(cat /run/lab-watts 2>/dev/null || echo 350.00)
mode=$(cat /run/lab-mode 2>/dev/null || echo Disabled)
for argument; do
  case "$argument" in
    --query-gpu=*) echo "GPU-lab, 00000000:01:00.0, NVIDIA GeForce RTX 3090 (stand-in), $limit, 100.00, 366.00, 350.00, $mode" ;;
    --power-limit=*) echo "${argument#*=}.00" > /run/lab-watts ;;
    --persistence-mode=1) echo Enabled > /run/lab-mode ;;
  esac
done
"""
LIMITS: dict[str, Any] = {"gpu_power_limits": {"all": 250}}


@pytest.fixture(scope="module", autouse=True)
def _card(lab: Lab) -> Iterator[None]:
    assert "No card answers nvidia-smi yet" in " ".join(lab.passes(lab.role("gpu_power", **LIMITS)).split())
    lab.on(f"cat > /usr/bin/nvidia-smi <<'END'\n{STANDIN}END\nchmod +x /usr/bin/nvidia-smi")
    yield
    lab.on("rm -f /usr/bin/nvidia-smi /run/lab-watts /run/lab-mode")


def test_limit_is_set_kept_and_taken_away(lab: Lab) -> None:
    assert "changed=3" in lab.passes(lab.role("gpu_power", **LIMITS)), "the limit, the unit, its start"
    assert lab.on("cat /run/lab-watts /run/lab-mode").split() == ["250.00", "Enabled"]
    assert "changed=0" in lab.passes(lab.role("gpu_power", **LIMITS))
    lab.on("rm /run/lab-watts /run/lab-mode; systemctl restart forja-gpu-power.service")  # as a boot does
    assert lab.on("cat /run/lab-watts /run/lab-mode").split() == ["250.00", "Enabled"]
    assert lab.on("systemctl is-enabled forja-gpu-power.service") == "enabled"
    output = lab.fails(lab.role("gpu_power", gpu_power_limits={"all": 400}))
    assert "400 W is asked for NVIDIA GeForce RTX 3090 (stand-in) (0000:01:00.0), which takes 100 to 366 W" in output
    assert lab.on("cat /run/lab-watts") == "250.00"
    lab.passes(lab.role("gpu_power", gpu_power_state="absent"))
    assert lab.on("cat /run/lab-watts") == "350.00"
    assert "changed=0" in lab.passes(lab.role("gpu_power", gpu_power_state="absent"))
