# SPDX-License-Identifier: Apache-2.0
"""What a host must look like that the role mig was on, asked of nvidia-smi, systemd and files."""

import re
from collections import Counter
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.role("mig"), pytest.mark.journal("forja-mig.service")]

UNIT = "forja-mig.service"
DROPIN = "/etc/systemd/system/nvidia-mig-manager.service.d/forja-mig.conf"
OURS = ["/etc/forja/mig.yaml", "/etc/default/forja-mig", f"/etc/systemd/system/{UNIT}", DROPIN, "/usr/local/sbin/forja-mig",
        "/usr/local/lib/forja"]


class Card:
    """A GPU as nvidia-smi lists it, with profile and UUID of its MIG devices."""

    def __init__(self, uuid: str) -> None:
        self.uuid, self.devices = uuid, list[tuple[str, str]]()

    @property
    def profiles(self) -> Counter[str]:
        return Counter(profile for profile, _uuid in self.devices)


@pytest.fixture
def cards(host: Any) -> dict[int, Card]:
    found: dict[int, Card] = {}
    for line in host.check_output("nvidia-smi -L").splitlines():
        if gpu := re.match(r"GPU (\d+): .*\(UUID: (GPU-[0-9a-f-]+)\)", line):
            found[int(gpu[1])] = Card(gpu[2])
        elif device := re.match(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[0-9a-f-]+)\)", line):
            found[max(found)].devices.append((device[1], device[2]))
    assert found, "nvidia-smi lists no GPU"
    return found


def wanted_profiles(variables: dict[str, Any], cards: dict[int, Card]) -> dict[int, Counter[str]]:
    """What the inventory says of a GPU by its number or UUID, and counts; the rest is for `forja-mig assert`."""
    config = variables["mig_config"]
    if not config:
        return {}
    labels = (yaml.safe_load(config) if isinstance(config, str) else config)["mig-configs"]
    found: dict[int, Counter[str]] = {}
    for entry in labels[variables["mig_selected"] or next(iter(labels))]:
        named = [number for number, card in cards.items() if entry["devices"] == "all" or {number, card.uuid} & set(entry["devices"])]
        counted = isinstance(entry.get("mig-devices", {}), dict) and "device-filter" not in entry
        for number in named:
            found.pop(number, None)  # the last entry for a GPU counts
            if counted:
                found[number] = Counter({name: count for name, count in entry.get("mig-devices", {}).items() if count})
    return found


def test_each_gpu_has_the_devices_that_the_inventory_wants(cards: dict[int, Card], variables: dict[str, Any]) -> None:
    wanted = wanted_profiles(variables, cards)
    assert {number: cards[number].profiles for number in wanted} == wanted


def test_a_built_in_label_gives_devices_of_its_profile(cards: dict[int, Card], variables: dict[str, Any]) -> None:
    profile = re.fullmatch(r"all-(\d+g\..+)", str(variables["mig_selected"]))
    if variables["mig_config"] or not profile:
        pytest.skip("the inventory names no profile for all GPUs")
    assert {name for card in cards.values() for name in card.profiles} == {profile[1].replace("gb.", "gb+")}


def test_every_device_has_a_uuid_of_its_own(cards: dict[int, Card]) -> None:
    uuids = [uuid for card in cards.values() for _profile, uuid in card.devices]
    assert len(set(uuids)) == len(uuids)


def test_the_boot_will_make_the_same(host: Any) -> None:
    assert host.service(UNIT).is_enabled
    assert host.check_output("systemctl is-active %s", UNIT) == "active"
    arguments = re.search(r"^FORJA_MIG=(.*)$", host.file("/etc/default/forja-mig").content_string, re.M)
    assert arguments
    result = host.run("/usr/local/sbin/forja-mig assert " + arguments[1].replace("--reset", ""))
    assert result.rc == 0, result.stdout + result.stderr


def test_the_boot_waits_for_nobody(host: Any, variables: dict[str, Any]) -> None:
    """Clients come after the layout, and none of them, nor the boot, depends on it."""
    asked = "--property=Before,After,Requires,RequiredBy,WantedBy,TimeoutStartUSec"
    shown = dict(line.split("=", 1) for line in host.check_output("systemctl show %s %s", UNIT, asked).splitlines())
    units = {client["unit"] for client in variables["mig_clients"] if client.get("unit") and "*" not in client["unit"]}
    always = {"docker.service", "nvidia-persistenced.service", "nvidia-cdi-refresh.service", "nvidia-gpu-reset.target"}
    assert always | units - {"nvidia-fabricmanager.service"} <= set(shown["Before"].split())
    assert "nvidia-fabricmanager.service" in shown["After"].split()
    assert shown["RequiredBy"] == ""
    assert shown["WantedBy"] == "multi-user.target"
    assert shown["TimeoutStartUSec"] != "infinity"


def test_nvidias_own_service_is_disabled_at_boot(host: Any) -> None:
    found = re.search(r"^ConditionPathExists=!(.*)$", host.file(DROPIN).content_string, re.M)
    assert found
    assert host.file(found[1]).exists, "the condition holds, and NVIDIA's service would make its own layout at boot"


def test_only_root_may_change_what_root_runs(host: Any) -> None:
    others = "find -L %s -perm /022 -o ! -user root"
    assert [path for path in OURS[1:] if host.check_output(others, path)] == []


@pytest.mark.role("mig", state="any")
def test_no_change_is_under_way(host: Any) -> None:
    records = ("/var/lib/forja/gpu-clients.json", "/var/lib/forja/mig/journal.json")
    assert [path for path in records if host.file(path).exists] == []


def test_only_root_can_write_the_state_folder(host: Any) -> None:
    assert host.check_output("find /var/lib/forja /var/lib/forja/mig -maxdepth 0 -perm /022 -o -maxdepth 0 ! -user root") == ""


@pytest.mark.role("mig", state="absent")
def test_nothing_is_left(host: Any, cards: dict[int, Card]) -> None:
    assert sum(len(card.devices) for card in cards.values()) == 0
    assert [path for path in OURS if host.file(path).exists] == []
    assert host.run("systemctl cat %s", UNIT).rc != 0
