# SPDX-License-Identifier: Apache-2.0
"""What a host must look like that the role mig was on, asked of nvidia-smi, systemd and files.

For hosts of the group mig, whose inventory says with `mig_*` what is wanted.
"""

import re
from collections import Counter
from typing import Any

import pytest

pytestmark = [pytest.mark.role("mig", state="any"), pytest.mark.journal("forja-mig.service")]

UNIT = "forja-mig.service"
STAND_BACK = "/etc/systemd/system/nvidia-mig-manager.service.d/forja-mig.conf"
OURS = ["/etc/forja/mig.yaml", "/etc/default/forja-mig", f"/etc/systemd/system/{UNIT}", STAND_BACK, "/usr/local/sbin/forja-mig",
        "/usr/local/lib/forja"]


@pytest.fixture
def devices(host: Any) -> dict[int, list[tuple[str, str]]]:
    """By GPU: profile and UUID of its MIG devices, as nvidia-smi lists them."""
    found: dict[int, list[tuple[str, str]]] = {}
    for line in host.check_output("nvidia-smi -L").splitlines():
        if gpu := re.match(r"GPU (\d+): ", line):
            found[int(gpu[1])] = []
        elif device := re.match(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[0-9a-f-]+)\)", line):
            found[max(found)].append((device[1], device[2]))
    assert found, "nvidia-smi lists no GPU"
    return found


@pytest.fixture
def present(variables: dict[str, Any]) -> None:
    if variables.get("mig_state", "present") != "present":
        pytest.skip("the inventory wants no MIG here")


@pytest.fixture
def absent(variables: dict[str, Any]) -> None:
    if variables.get("mig_state", "present") != "absent":
        pytest.skip("the inventory wants MIG here")


def entries(variables: dict[str, Any]) -> list[dict[str, Any]]:
    """What the inventory asks for, where it does so in data; a label of the cards' own is computed on the host."""
    config = variables.get("mig_config")
    if not isinstance(config, dict):
        return []
    labels = config["mig-configs"]
    found: list[dict[str, Any]] = labels[variables.get("mig_selected") or next(iter(labels))]
    return found


@pytest.mark.usefixtures("present")
def test_each_gpu_has_the_devices_that_are_asked_for(devices: dict[int, list[tuple[str, str]]], variables: dict[str, Any]) -> None:
    assert sum(map(len, devices.values())) > 0 or variables.get("mig_selected") in ("all-disabled", "all-enabled")
    for entry in entries(variables):
        for gpu in devices if entry["devices"] == "all" else [number for number in entry["devices"] if isinstance(number, int)]:
            if isinstance(wanted := entry.get("mig-devices", {}), dict):
                assert Counter(profile for profile, _uuid in devices[gpu]) == Counter(wanted), f"GPU {gpu}"


@pytest.mark.usefixtures("present")
def test_every_device_has_a_uuid_of_its_own(devices: dict[int, list[tuple[str, str]]]) -> None:
    uuids = [uuid for of_one in devices.values() for _profile, uuid in of_one]
    assert len(set(uuids)) == len(uuids)


@pytest.mark.usefixtures("present")
def test_the_boot_will_make_the_same(host: Any) -> None:
    assert host.service(UNIT).is_enabled
    assert host.check_output("systemctl is-active %s", UNIT) == "active"
    wanted = re.search(r"^FORJA_MIG=(.*)$", host.file("/etc/default/forja-mig").content_string, re.M)
    assert wanted
    told = host.run("/usr/local/sbin/forja-mig assert " + wanted[1].replace("--reset", ""))
    assert told.rc == 0, told.stdout + told.stderr


@pytest.mark.usefixtures("present")
def test_the_boot_waits_for_nobody(host: Any, variables: dict[str, Any]) -> None:
    """Clients come after the layout, and none of them, nor the boot, depends on it."""
    asked = "--property=Before,After,Requires,RequiredBy,WantedBy,TimeoutStartUSec"
    shown = dict(line.split("=", 1) for line in host.check_output("systemctl show %s %s", UNIT, asked).splitlines())
    clients = {"ollama.service", "comfyui.service", "triton.service", "slurmd.service", "kubelet.service", "nvidia-dcgm.service"}
    always = {"docker.service", "nvidia-persistenced.service", "nvidia-cdi-refresh.service", "nvidia-gpu-reset.target"}
    assert always | (clients if "mig_clients" not in variables else set()) <= set(shown["Before"].split())
    assert "nvidia-fabricmanager.service" in shown["After"].split()
    assert shown["RequiredBy"] == ""
    assert shown["WantedBy"] == "multi-user.target"
    assert shown["TimeoutStartUSec"] != "infinity"


@pytest.mark.usefixtures("present")
def test_nvidias_own_service_stands_back_at_boot(host: Any) -> None:
    found = re.search(r"^ConditionPathExists=!(.*)$", host.file(STAND_BACK).content_string, re.M)
    assert found
    assert host.file(found[1]).exists, "the condition holds, and NVIDIA's service would make its own layout at boot"


@pytest.mark.usefixtures("present")
def test_only_root_may_change_what_root_runs(host: Any) -> None:
    others = "find -L %s -perm /022 -o ! -user root"
    assert [path for path in OURS[1:] if host.check_output(others, path)] == []


def test_no_change_is_under_way(host: Any) -> None:
    notes = ("/var/lib/forja/gpu-clients.json", "/var/lib/forja/mig/journal.json")
    assert [path for path in notes if host.file(path).exists] == []


@pytest.mark.usefixtures("absent")
def test_nothing_is_left(host: Any, devices: dict[int, list[tuple[str, str]]]) -> None:
    assert sum(map(len, devices.values())) == 0
    assert [path for path in OURS if host.file(path).exists] == []
    assert host.run("systemctl cat %s", UNIT).rc != 0
