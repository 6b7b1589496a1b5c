# SPDX-License-Identifier: Apache-2.0
"""The role gpu_detect in a real run: one host for each of some machines, all of them folders of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.machines import build, match

REPO = Path(__file__).resolve().parents[3]
# NVML is not asked about another tree, so what only NVML knows is not in the lines.
LINES = {
    "broken-mismatch": "2 problems (driver mismatch, dkms not installed); L40S (nvidia 580.95.05 open); reboot required",
    "container-with-gpu": "Container: L40S (nvidia 550.163.01 open)",
    "jetson-thor-jp71": "Jetson T5000 (nvidia 580.00 open), JetPack 7.1",
    "no-gpu": "no GPU",
    "rtx5060-nouveau": "RTX 5060 (nouveau); open driver 595 recommended",
    "wsl2-shadowed": "1 problem (wsl shadowed library); WSL2: GPU of the Windows host (driver of Windows)",
}
MACHINES = sorted(LINES)
ALLOWED = ["bare_metal", "wsl2"]
PLAYS = [
    {
        "hosts": "no-gpu",
        "gather_facts": False,
        "tasks": [{"name": "Bring facts of yesterday", "ansible.builtin.set_fact": {"gpu": {"recommended": {}}, "cacheable": True}}],
    },
    {"hosts": "all", "gather_facts": False, "roles": [{"role": "gpu_detect", "gpu_detect_group": True}]},
    {
        "hosts": "gpu_platform_bare_metal",
        "gather_facts": False,
        "tasks": [{"name": "Grouped", "ansible.builtin.debug": {"msg": "grouped"}}],
    },
    # The host was looked at: a folder that is not there would make the module fail.
    {
        "hosts": "all",
        "gather_facts": False,
        "roles": [{"role": "persona", "gpu_detect_root": "/nonexistent", "gpu_detect_requires": ALLOWED}],
    },
    # A persona's role on a host that is not in the persona's group, as in a playbook of one's own.
    {"hosts": "wsl2-shadowed", "gather_facts": False, "roles": [{"role": "slurm_node"}]},
]


class Told:
    """What a run printed."""

    def __init__(self, output: str) -> None:
        self.output = output
        recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+) .* failed=(\d+)", output, re.M)
        self.changed = {host for host, changed, _failed in recap if changed != "0"}
        self.failed = {host for host, _changed, failed in recap if failed != "0"}

    def of(self, task: str, host: str) -> str:
        """The last message of a task about a host."""
        for rest in reversed(self.output.split(f"{task}] ***")[1:]):
            block = re.split(r"^(?:TASK|PLAY) ", rest, flags=re.M)[0]
            found = re.search(rf"^(?:ok|fatal|skipping): \[{host}\].*\n((?:    .*\n|\[.*\n)*)", block, re.M)
            if found:
                return " ".join(found.group(1).split())
        return ""


def run(folder: Path, playbook: str, groups: dict[str, list[str]]) -> Told:
    """Runs a playbook on one host for each machine, by inventory group; each is a folder of this machine."""
    inventory: dict[str, Any] = {group: {"hosts": {}} for group in groups}
    for group, names in groups.items():
        for name in names:
            build.refresh(match.MACHINES / name / "machine.yml", folder / name)
            inventory[group]["hosts"][name] = {"gpu_detect_root": str(folder / name)}
    there = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": inventory, "vars": there}}))
    ours = {"ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(REPO / "roles"), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", "hosts.yml", playbook]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **ours, "COLUMNS": "400"}, capture_output=True, text=True, check=False)
    return Told(done.stdout + done.stderr)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("detect")
    (folder / "play.yml").write_text(yaml.safe_dump(PLAYS))
    for role in ("persona", "slurm_node"):
        tasks = folder / "roles" / role / "tasks/main.yml"
        tasks.parent.mkdir(parents=True)
        tasks.write_text(yaml.safe_dump([{"name": "Detect", "ansible.builtin.import_role": {"name": "gpu_detect"}}]))
    return run(folder, "play.yml", {"machines": MACHINES})


@pytest.mark.parametrize("name", MACHINES)
def test_summary_has_the_line_of_the_machine(told: Told, name: str) -> None:
    line = re.search(rf"^{name}\n +gpu +(.*)$", told.output, re.M)
    assert line, told.output
    assert line.group(1) == LINES[name]


def test_hosts_are_grouped_by_platform(told: Told) -> None:
    assert {name for name in MACHINES if "grouped" in told.of("Grouped", name)} == {"broken-mismatch", "no-gpu", "rtx5060-nouveau"}


def test_only_other_platforms_are_refused_and_nothing_changes(told: Told) -> None:
    assert told.failed == {"container-with-gpu", "jetson-thor-jp71", "wsl2-shadowed"}, told.output
    assert told.changed == set()


def test_a_persona_is_known_by_its_role_too(told: Told) -> None:
    assert "slurm_node cannot be on wsl2-shadowed, which is WSL2" in told.of("Refuse a platform that cannot be", "wsl2-shadowed")


def test_a_refusal_says_who_what_why_and_what_to_do(told: Told) -> None:
    message = told.of("Refuse a platform that cannot be", "container-with-gpu")
    assert "persona cannot be on container-with-gpu, which is a container (/.dockerenv exists)" in message
    assert "It is for a physical machine or WSL2." in message
    assert "Provision the machine that runs the container" in message
    assert "Its driver and libraries are part of JetPack." in told.of("Refuse a platform that cannot be", "jetson-thor-jp71")


def test_problems_are_told_with_what_to_do(told: Told) -> None:
    assert "reboot, or stop all users of the GPUs" in told.of("Say what a person should look at", "broken-mismatch")
    assert told.of("Say what a person should look at", "no-gpu") == ""


# Hosts that say by their group what they shall become; some cannot.
SITE = {
    "azure_vm": ["azure-nc-a100", "h200-vm"],
    # v100-pair has two personas that can nowhere be together: a slip in an inventory.
    "jetson": ["jetson-orin-nano-jp62", "rtx5060-nouveau", "v100-pair"],
    "kubernetes_node": ["hgx-h100", "wsl2-rtx4070"],
    "slurm_node": ["no-gpu", "jetson-thor-jp71", "v100-pair"],
    "workstation": [],
}
REFUSED = {
    "h200-vm": "azure_vm cannot be on h200-vm, which is a virtual machine (DMI says QEMU",
    "rtx5060-nouveau": "jetson cannot be on rtx5060-nouveau, which is a physical machine (no sign of a hypervisor, a container or WSL). "
                       "It is for a Jetson. Take the host out of this inventory group, or give it another persona.",
    "wsl2-rtx4070": "kubernetes_node cannot be on wsl2-rtx4070, which is WSL2",
    "jetson-thor-jp71": "slurm_node cannot be on jetson-thor-jp71, which is a Jetson",
    "v100-pair": "jetson cannot be on v100-pair, which is a physical machine",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return run(tmp_path_factory.mktemp("site"), str(REPO / "site.yml"), SITE)


def test_site_refuses_personas_where_they_cannot_be(site: Told) -> None:
    assert site.failed == set(REFUSED), site.output
    assert site.changed == set()
    for name, sentence in REFUSED.items():
        assert sentence in site.of("Refuse a platform that cannot be", name)


def test_site_says_why_a_driver_of_its_own_cannot_be(site: Told) -> None:
    assert "The driver is that of Windows and is updated there." in site.of("Refuse a platform that cannot be", "wsl2-rtx4070")
    assert "Its driver and libraries are part of JetPack." in site.of("Refuse a platform that cannot be", "jetson-thor-jp71")


@pytest.mark.parametrize("playbook", sorted((REPO / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_persona_is_looked_at_as_root(playbook: Path) -> None:
    """What one play sees the later ones take over; without root it is not the whole."""
    assert all(play["become"] is True for play in yaml.safe_load(playbook.read_text()))


def test_who_begins_with_it_does_so_whatever_facts_there_are() -> None:
    """Those of a fact cache are from an earlier run: only this role knows."""
    found = {}
    for path in REPO.glob("roles/*/tasks/main.yml"):
        for task in yaml.safe_load(path.read_text()):
            if task.get("ansible.builtin.import_role", {}).get("name") == "gpu_detect":
                found[path.parts[-3]] = "when" in task
    assert found == {"nvidia_driver": False, "workstation": False}
