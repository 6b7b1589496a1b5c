# SPDX-License-Identifier: Apache-2.0
"""The role gpu_detect in a real run: one host for each of some machines, all of them folders of this machine."""

from __future__ import annotations

import os
import re
import shutil
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


def run(folder: Path, playbook: str, groups: dict[str, list[str]], *arguments: str) -> Told:
    """Runs a playbook on one host for each machine, by inventory group; each is a folder of this machine."""
    inventory: dict[str, Any] = {group: {"hosts": {}} for group in groups}
    for group, names in groups.items():
        for name in names:
            build.refresh(match.MACHINES / name / "machine.yml", folder / name)
            inventory[group]["hosts"][name] = {"gpu_detect_root": str(folder / name)}
    there = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": inventory, "vars": there}}))
    ours = {"ANSIBLE_CONFIG": str(REPO / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": f"{folder / 'roles'}:{REPO / 'roles'}", "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", "hosts.yml", playbook, *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **ours, "COLUMNS": "400"}, capture_output=True, text=True, check=False)
    return Told(done.stdout + done.stderr)


def persona(folder: Path, name: str, platforms: list[str]) -> None:
    """Writes the role of a persona that only begins with gpu_detect, and then changes the host."""
    detect = {"name": "Detect", "ansible.builtin.import_role": {"name": "gpu_detect"}}
    if platforms:
        detect["vars"] = {"gpu_detect_requires": f"{{{{ __{name}_platforms }}}}"}
    change = {"name": "Change", "ansible.builtin.debug": {"msg": "changed"}, "changed_when": True}
    own = {f"__{name}_platforms": platforms} if platforms else {"__x": "{{ y }}"}
    for file, content in {"tasks": [detect, change], "vars": own}.items():
        path = folder / "roles" / name / file / "main.yml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("detect")
    (folder / "play.yml").write_text(yaml.safe_dump(PLAYS))
    persona(folder, "persona", [])
    return run(folder, "play.yml", {"machines": MACHINES})


@pytest.mark.parametrize("name", MACHINES)
def test_summary_has_the_line_of_the_machine(told: Told, name: str) -> None:
    line = re.search(rf"^{name}\n +gpu +(.*)$", told.output, re.M)
    assert line, told.output
    assert line.group(1) == LINES[name]


def test_hosts_are_grouped_by_platform(told: Told) -> None:
    assert {name for name in MACHINES if "grouped" in told.of("Grouped", name)} == {"broken-mismatch", "no-gpu", "rtx5060-nouveau"}


def test_only_other_platforms_are_refused_and_nothing_changes(told: Told) -> None:
    assert told.failed == {"container-with-gpu", "jetson-thor-jp71"}, told.output
    assert told.changed == set(MACHINES) - told.failed


def test_a_refusal_says_who_what_why_and_what_to_do(told: Told) -> None:
    message = told.of("Refuse an unsupported platform", "container-with-gpu")
    assert "Persona persona is not supported on container-with-gpu (container: /.dockerenv exists)." in message
    assert "Supported: bare_metal, wsl2." in message
    assert "Provision the machine that runs the container" in message
    assert "Its driver and libraries are part of JetPack." in told.of("Refuse an unsupported platform", "jetson-thor-jp71")


def test_problems_are_printed_with_what_to_do(told: Told) -> None:
    block = told.output.partition("\nbroken-mismatch\n")[2]
    assert "problem: " in block.partition("\ncontainer-with-gpu\n")[0]
    assert "reboot, or stop all users of the GPUs" in block


# Hosts that say by their group what they shall become; some cannot. gpu_detect knows none of these personas.
PERSONAS = {"edge_box": ["jetson"], "batch_node": ["bare_metal", "vm", "azure"], "desk": ["bare_metal", "vm", "wsl2"]}
SITE = {
    # v100-pair has two personas that are nowhere supported together: a slip in an inventory. h200-vm has two that are.
    "edge_box": ["jetson-orin-nano-jp62", "v100-pair"],
    "batch_node": ["hgx-h100", "wsl2-rtx4070", "v100-pair", "h200-vm"],
    "desk": ["h200-vm"],
    "docker": ["hgx-h100"],  # a group with the name of a role that is no persona
}
REFUSED = {
    "wsl2-rtx4070": "Persona batch_node is not supported on wsl2-rtx4070 (wsl2: ",
    "v100-pair": "Persona edge_box is not supported on v100-pair (bare_metal: no sign of a hypervisor, a container or WSL). "
                 "Supported: jetson. Take the host out of this inventory group, or give it another persona.",
}


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Personas beside gpu_detect, each with a play; batch_node comes first."""
    folder = tmp_path_factory.mktemp("site")
    for role in ("gpu_detect", "docker"):
        shutil.copytree(REPO / "roles" / role, folder / "roles" / role)
    for name, platforms in PERSONAS.items():
        persona(folder, name, platforms)
    plays = [{"hosts": name, "gather_facts": False, "roles": [name]} for name in sorted(PERSONAS)]
    (folder / "site.yml").write_text(yaml.safe_dump(plays))
    return folder


@pytest.fixture(scope="module")
def site(site_folder: Path) -> Told:
    return run(site_folder, "site.yml", SITE)


def test_hosts_are_refused_before_any_persona_changes_them(site: Told) -> None:
    assert site.failed == set(REFUSED), site.output
    assert site.changed == {"jetson-orin-nano-jp62", "hgx-h100", "h200-vm"}
    for name, sentence in REFUSED.items():
        assert sentence in site.of("Refuse an unsupported platform", name)


def test_advice_says_why_a_driver_of_its_own_cannot_be(site: Told) -> None:
    assert "The driver is that of Windows and is updated there." in site.of("Refuse an unsupported platform", "wsl2-rtx4070")


def test_who_knows_better_refuses_nothing(site_folder: Path) -> None:
    told = run(site_folder, "site.yml", SITE, "--extra-vars", '{"gpu_detect_requires": []}')
    assert told.failed == set(), told.output


@pytest.mark.parametrize("playbook", sorted((REPO / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_persona_is_looked_at_as_root(playbook: Path) -> None:
    """What one play sees the later ones take over; without root it is not the whole."""
    assert all(play["become"] is True for play in yaml.safe_load(playbook.read_text()))
