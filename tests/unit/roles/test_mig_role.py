# SPDX-License-Identifier: Apache-2.0
"""What the role mig decides on paper: who waits for the layout at boot, who stands back. tests/faults tries it on hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from plugins.action.role_arguments import arguments, read_spec

ROLE = Path(__file__).resolve().parents[3] / "roles/mig"
ALWAYS = ["nvidia-gpu-reset.target", "nvidia-persistenced.service", "nvidia-cdi-refresh.service", "docker.service", "containerd.service"]


def value(name: str, **variables: Any) -> Any:
    """Return a private variable of the role; `variables` are public ones by their full names, or private ones."""
    loader = DataLoader()
    known = loader.load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    public = loader.load_from_file(str(ROLE / "defaults/main.yml")) | {key: of for key, of in variables.items() if key.startswith("mig_")}
    found, faults = arguments(public, read_spec(ROLE), "mig", {})
    assert not faults
    known |= {"__mig": found} | {key: of for key, of in variables.items() if key.startswith("__")}
    return Templar(loader, variables=known).template(known[name])


def test_all_known_clients_wait_for_the_layout_but_the_one_before_it() -> None:
    known = [one["unit"].replace("*", "") for one in value("__mig")["clients"] if "unit" in one]
    assert {"slurmd.service", "kubelet.service", "ollama.service", "comfyui.service", "triton.service", "nvsm.service"} < set(known)
    assert set(value("__mig_before")) == {*ALWAYS, *known} - {"nvidia-fabricmanager.service"}


@pytest.mark.parametrize(("unit", "waits"), [
    ("render.service", ["render.service"]),
    ("render*.service", ["render.service"]),
    ("render@*.service", []),
    ("render-[ab].service", []),
    ("*.service", []),
    ("nvidia-persistenced.service", []),
])
def test_names_that_systemd_can_order_by(unit: str, waits: list[str]) -> None:
    assert value("__mig_before", mig_clients=[{"unit": unit}, {"cri_container": "somebody"}]) == ALWAYS + waits


@pytest.mark.parametrize(("selected", "arguments"), [
    ("training", "--file /etc/forja/mig.yaml --config training"),
    ("two words", "--file /etc/forja/mig.yaml --config 'two words'"),
    (True, "--file /etc/forja/mig.yaml --config True"),
    (False, "--file /etc/forja/mig.yaml --config False"),  # `mig_selected: off`; each spelling will do
    ("", "--file /etc/forja/mig.yaml"),
])
def test_the_boot_applies_the_same_label(selected: Any, arguments: str) -> None:
    settings = value("__mig_settings", mig_config={"version": "v1"}, mig_selected=selected)
    assert settings.splitlines()[-1] == "FORJA_MIG=" + arguments


SKIPPED = {"skipped": True, "changed": False}
TWO = [{"gpu": 0}, {"gpu": 0}]


@pytest.mark.parametrize(("plan", "summary"), [
    ({"devices": [], "steps": [], "obstacle": ""}, "no MIG"),
    ({"steps": [], "obstacle": "no pynvml"}, "removed; NVML could not be queried: no pynvml"),
])
def test_no_mig_is_reported_only_if_nvml_could_be_queried(plan: dict[str, Any], summary: str) -> None:
    assert value("__mig_summary", mig_state="absent", __mig_plan=plan, __mig_change=SKIPPED) == summary


@pytest.mark.parametrize(("change", "reread", "summary", "problems"), [
    (SKIPPED, SKIPPED, "all-balanced: 0 devices on 0 GPUs", 0),
    ({"label": "all-balanced", "devices": TWO}, SKIPPED, "all-balanced: 2 devices on 1 GPU", 0),
    # After a reboot it is read again.
    ({"label": "all-balanced", "devices": []}, {"label": "all-balanced", "devices": TWO, "steps": []},
     "all-balanced: 2 devices on 1 GPU", 0),
    ({"label": "all-balanced", "devices": []}, {"label": "all-balanced", "devices": [], "steps": ["GPU 0: enable MIG"]},
     "all-balanced: 0 devices on 0 GPUs", 1),
])
def test_the_latest_state_is_reported(change: dict[str, Any], reread: dict[str, Any], summary: str, problems: int) -> None:
    known = {"__mig_plan": {"label": "all-balanced", "devices": [], "steps": []}, "__mig_change": change, "__mig_reread": reread}
    assert value("__mig_summary", **known) == summary
    assert sum(map(bool, value("__mig_problems", **known))) == problems


def test_nvidias_own_service_stands_back_while_ours_is_enabled() -> None:
    """The condition names the very link that `systemctl enable` makes, so that disabling ours gives NVIDIA's the boot again."""
    dropin = next(task["systemd_dropin"] for task in yaml.safe_load((ROLE / "tasks/service.yml").read_text()) if "systemd_dropin" in task)
    assert dropin["unit"] == "nvidia-mig-manager.service"
    unit = (ROLE / "templates/etc/systemd/system/forja-mig.service.j2").read_text()
    target = unit.partition("\nWantedBy=")[2].strip()
    assert dropin["settings"] == {"Unit": {"ConditionPathExists": f"!/etc/systemd/system/{target}.wants/forja-mig.service"}}
    gone = next(task["systemd_dropin"] for task in yaml.safe_load((ROLE / "tasks/remove.yml").read_text()) if "systemd_dropin" in task)
    assert (gone["unit"], gone["name"], gone["state"]) == (dropin["unit"], dropin["name"], "absent")


def test_containers_in_pods_by_the_names_of_nvidias_charts() -> None:
    """Of the device plugin's own chart, and of the GPU Operator, which names the same programs otherwise."""
    named = {one["cri_container"]: one["stop"] for one in value("__mig")["clients"] if "cri_container" in one}
    chart = {"nvidia-device-plugin-ctr", "gpu-feature-discovery-ctr"}
    operator = {"nvidia-device-plugin", "gpu-feature-discovery", "nvidia-dcgm-exporter", "nvidia-dcgm-ctr"}
    assert named == dict.fromkeys(chart | operator, "always")
