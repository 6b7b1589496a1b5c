# SPDX-License-Identifier: Apache-2.0
"""What gpu_facts tells of a host, against what the shell reads there. The role itself leaves nothing on a host."""

from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.role("gpu_detect")

VENDORS = {"0x10de", "0x1002", "0x8086"}
CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
DEVICES = """cd %s/sys/bus/pci/devices 2>/dev/null || exit 0
for it in *; do
  [ -e "$it/class" ] && echo "$it $(cat "$it/class" "$it/vendor" "$it/device" | tr '\\n' ' ') $(readlink "$it/driver")"
done"""


class Device(NamedTuple):
    address: str
    code: str
    vendor: str
    device: str
    driver: str | None


@pytest.fixture(scope="module")
def root(host: Any) -> str:
    """Where the host's hardware is read: / but for simulated hosts."""
    return str(host.ansible.get_variables().get("gpu_detect_root", "/")).rstrip("/")


@pytest.fixture(scope="module")
def told(host: Any, root: str) -> dict[str, Any]:
    facts: dict[str, Any] = host.ansible("gpu_facts", f"root={root or '/'}")["ansible_facts"]["gpu"]
    return facts


@pytest.fixture(scope="module")
def devices(host: Any, root: str) -> list[Device]:
    rows = [line.split() for line in host.check_output(DEVICES, root).splitlines()]
    return [Device(row[0], row[1], row[2], row[3], row[4].rpartition("/")[2] if len(row) > 4 else None) for row in rows]


def first_line(host: Any, path: str) -> str | None:
    """Of a file, None where there is none; some in /proc and /sys have no size, so testinfra's own reading is not for them."""
    answer = host.run("head --lines=1 %s", path)
    return answer.stdout.strip() if answer.rc == 0 else None


def test_every_gpu_on_the_bus_is_told_and_no_other(told: dict[str, Any], devices: list[Device]) -> None:
    # Intel files its neural accelerators under 1200; they are no GPUs.
    gpus = [it for it in devices if it.vendor in VENDORS and it.code[:6] in CLASSES and (it.vendor, it.code[:6]) != ("0x8086", "0x1200")]
    seen = {(it.address, f"{it.vendor[2:]}:{it.device[2:]}", it.driver) for it in gpus}
    assert {(gpu["address"], gpu["pci_id"], gpu["driver"]) for gpu in told["gpus"] if gpu["pci_id"]} == seen


def test_nvswitches(told: dict[str, Any], devices: list[Device]) -> None:
    assert told["nvswitch"] == len([it for it in devices if it.vendor == "0x10de" and it.code.startswith("0x0680")])


def test_loaded_modules(host: Any, root: str, told: dict[str, Any]) -> None:
    assert told["driver"]["loaded_version"] == first_line(host, f"{root}/sys/module/nvidia/version")
    assert told["nouveau"]["loaded"] is host.file(f"{root}/sys/module/nouveau").is_directory


def test_running_kernel(host: Any, root: str, told: dict[str, Any]) -> None:
    release = first_line(host, f"{root}/proc/sys/kernel/osrelease")
    running = [kernel["release"] for kernel in told["driver"]["kernels"] if kernel["running"]]
    # A container has a kernel, and not its modules.
    assert running == ([release] if host.file(f"{root}/lib/modules/{release}").is_directory else [])


def test_platform_is_what_systemd_says(host: Any) -> None:
    """Of the host as it is, simulated hardware or not: a host of the lab is a container."""
    kind = host.ansible("gpu_facts", "gather=platform")["ansible_facts"]["gpu"]["platform"]["kind"]
    container = host.run("systemd-detect-virt --container").stdout.strip()
    virtual = host.run("systemd-detect-virt --vm").stdout.strip()
    wanted = {"wsl": {"wsl2", "wsl1"}, "none": {"bare_metal", "jetson"} if virtual == "none" else {"vm", "azure"}}
    assert kind in wanted.get(container, {"container"})


def test_the_driver_knows_the_same_gpus(host: Any, root: str, told: dict[str, Any]) -> None:
    if root or not host.exists("nvidia-smi"):
        pytest.skip("there is no nvidia-smi to ask")
    uuids = set(host.check_output("nvidia-smi --query-gpu=uuid --format=csv,noheader").split())
    driven = [gpu for gpu in told["gpus"] if gpu["driver"] in ("nvidia", "dxgkrnl")]
    assert len(driven) == len(uuids)
    assert {gpu["uuid"] for gpu in driven} == (uuids if told["nvml"]["state"] == "answered" else {None})


def test_summary_is_one_line(told: dict[str, Any]) -> None:
    assert told["summary"]
    assert "\n" not in told["summary"]
