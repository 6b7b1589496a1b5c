# SPDX-License-Identifier: Apache-2.0
"""MIG on two hosts of the lab, two A100 (Debian 12) and eight H100 (Debian 13): from bare to partitioned, kept over restarts, and away.

The GPUs are simulated, and so are the programs that use them: units with true names that run `sleep` and tell the simulated driver
that they hold a GPU. Each test can run alone: fixtures bring its host to the same state, by a run of the role only where it is not in it.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import INVENTORY, LAB, ROOT, Lab

AMPERE, HOPPER = "mig12", "mig13"
HOSTS = (AMPERE, HOPPER)
pytestmark = pytest.mark.host(name="mig")
NOTE = "/var/lib/forja/gpu-clients.json"
BALANCED = {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
# /run/NAME.holds says what a client registers for: nothing, a GPU, or an instance of it.
HOLDER = """#!/bin/sh
# A stand-in of the Forja lab for a program that uses GPUs: NAME start PID, NAME stop
name=$1
if [ "$2" = start ]; then
    echo $3 > /run/$name.pid
    set -- $(cat /run/$name.holds 2>/dev/null)
    if [ $# -gt 0 ]; then gpu=$1; shift; nvml-sim process add $gpu $(cat /run/$name.pid) "$@"; fi
    echo "start $name" >> /run/clients.log
else
    for gpu in $(cut -d" " -f1 /run/$name.holds 2>/dev/null); do nvml-sim process remove $gpu $(cat /run/$name.pid); done
    echo "stop $name" >> /run/clients.log
fi
exit 0
"""
CLIENT = """[Unit]
Description=Stand-in of the Forja lab for {name}
[Service]
ExecStart=sleep infinity
ExecStartPost=/usr/local/bin/gpu-client {name} start $MAINPID
ExecStopPost=/usr/local/bin/gpu-client {name} stop
[Install]
WantedBy=multi-user.target
"""
REFRESH = """[Unit]
Description=Stand-in of the Forja lab for the CDI refresh of NVIDIA's container toolkit
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo cdi >> /run/clients.log'
"""
# As NVIDIA's mig-parted installs it, but for the program.
MIG_MANAGER = """[Unit]
Description=Stand-in of the Forja lab for NVIDIA's boot service of MIG
DefaultDependencies=no
After=nvidia-persistenced.service nvidia-fabricmanager.service
Before=nvidia-gpu-reset.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo mig-manager >> /run/clients.log'
[Install]
WantedBy=multi-user.target nvidia-gpu-reset.target
"""


class Gpus(Lab):
    """Both hosts, or one of them, and runs of the role on them with what is wanted in the inventory."""

    def __init__(self, inventory: Path, name: str = ",".join(HOSTS)) -> None:
        super().__init__(name, inventory)

    def of(self, name: str) -> "Gpus":
        return Gpus(self.inventory, name)

    def start_run(self, *, check: bool = False, **wish: object) -> "subprocess.Popen[str]":
        wanted = {f"mig_{key}": value for key, value in wish.items()}
        (self.inventory / "wish.yml").write_text(json.dumps({"mig": {"vars": wanted}}))
        return self.role("mig", check=check, **wanted)

    def run(self, *, check: bool = False, **wish: object) -> dict[str, int]:
        """Runs the role; returns how many tasks changed something on each host."""
        output = self.passes(self.start_run(check=check, **wish))
        return {name: int(changed) for name, changed in re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", output, re.M)}

    def witness(self) -> None:
        """The host tests of the role, against what the last run was asked for."""
        done = subprocess.run(["pytest", "tests/hosts/test_mig.py", f"--hosts=ansible://{self.name.replace(',', ',ansible://')}",
                               f"--ansible-inventory={self.inventory}"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout

    def show(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.on("nvml-sim show"))["gpus"]
        return found

    def uuids(self) -> dict[tuple[int, int], str]:
        """By GPU and first memory slot: the UUID of the first MIG device there."""
        return {(gpu["index"], one["start"]): one["compute"][0]["uuid"] for gpu in self.show() for one in gpu["instances"]}

    def profiles(self, gpu: int) -> list[str]:
        return sorted(one["profile"] for one in self.show()[gpu]["instances"])

    def instance(self, gpu: int, profile: str) -> int:
        return next(int(one["id"]) for one in self.show()[gpu]["instances"] if one["profile"] == profile)

    def instance_at(self, gpu: int, start: int) -> int:
        return next(int(one["id"]) for one in self.show()[gpu]["instances"] if one["start"] == start)

    def log(self) -> list[str]:
        """What the clients went through since the last look."""
        return self.on("cat /run/clients.log; : > /run/clients.log").splitlines()

    def holds(self, client: str, what: str) -> None:
        """Start a client anew, holding a GPU (`0`) or an instance (`0 --instance 5`)."""
        self.on(f"echo '{what}' > /run/{client}.holds; systemctl restart {client}")

    def is_balanced(self) -> bool:
        """Whether the host is as the role leaves it with BALANCED, kept over reboots, and no change is under way."""
        wanted = sorted(profile for profile, count in BALANCED.items() for _ in range(count))
        kept = self.on("systemctl is-active forja-mig; cat /etc/forja/mig.yaml; ls /var/lib/forja/mig/journal.json "
                       f"{NOTE} /etc/systemd/system/nvidia-mig-manager.service", check=False)
        return kept == "active\n" + json.dumps(only(BALANCED), indent=4, sort_keys=True) and all(
            sorted(one["profile"] for one in gpu["instances"]) == wanted for gpu in self.show())

    def restart(self) -> None:
        """As after a power cut that everything survives but memory."""
        subprocess.run(["docker", "restart", "--time", "0", f"forja-{LAB}-{self.name}"], check=True, capture_output=True)
        for _ in range(60):
            if self.on("systemctl is-system-running --wait", check=False) in ("running", "degraded"):
                return
            time.sleep(1)
        pytest.fail(f"{self.name} does not come up")


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Gpus:
    inventory = tmp_path_factory.mktemp("inventory")
    for part in INVENTORY.iterdir():
        (inventory / part.name).symlink_to(part.resolve())
    return Gpus(inventory)


@pytest.fixture
def ampere(gpus: Gpus) -> Gpus:
    return gpus.of(AMPERE)


@pytest.fixture
def balanced(ampere: Gpus) -> Gpus:
    """The pair of A100, each with two small instances, a middle and a large one."""
    ampere.on("nvml-sim faults clear")
    if not ampere.is_balanced():
        ampere.run(config=only(BALANCED))
        assert ampere.is_balanced()
    return ampere


@pytest.fixture
def clients(balanced: Gpus) -> Iterator[Gpus]:
    """It with clients: slurmd counts the GPUs, Ollama holds what is at slot 2 of the first, ComfyUI its 3g."""
    host = balanced
    units = {name: CLIENT.format(name=name) for name in ("slurmd", "ollama", "comfyui")} | {"nvidia-cdi-refresh": REFRESH}
    for name, text in units.items():
        host.on(f"cat > /etc/systemd/system/{name}.service <<'END'\n{text}END")
    host.on(f"cat > /usr/local/bin/gpu-client <<'END'\n{HOLDER}END\nchmod +x /usr/local/bin/gpu-client; systemctl daemon-reload")
    host.on("systemctl enable --now slurmd ollama comfyui 2>/dev/null")
    host.holds("ollama", f"0 --instance {host.instance_at(0, 2)}")
    host.holds("comfyui", f"0 --instance {host.instance(0, '3g.40gb')}")
    host.log()
    yield host
    host.on("nvml-sim faults clear; systemctl stop stranger 2>/dev/null; rm -f /run/*.holds; true")
    host.on("pid=$(cat /run/train.pid 2>/dev/null) && nvml-sim process remove 1 $pid; kill $pid; rm -f /run/train.pid", check=False)
    left = host.on("systemctl is-active slurmd ollama comfyui", check=False).split(), host.on(f"ls {NOTE}", check=False)
    host.on("systemctl disable --now slurmd ollama comfyui 2>/dev/null; cd /etc/systemd/system; rm -f /usr/local/bin/gpu-client"
            " slurmd.service ollama.service comfyui.service nvidia-cdi-refresh.service; systemctl daemon-reload", check=False)
    assert left == (["active"] * 3, ""), "a client was left stopped"


def only(devices: dict[str, int]) -> dict[str, Any]:
    """A configuration that changes the first GPU only."""
    entries = [{"devices": [gpu], "mig-enabled": True, "mig-devices": wanted} for gpu, wanted in enumerate((devices, BALANCED))]
    return {"version": "v1", "mig-configs": {"lab": entries}}


@pytest.mark.deep
def test_from_bare_hosts_and_back(gpus: Gpus) -> None:
    if any(gpus.of(host).uuids() for host in HOSTS):
        gpus.run(state="absent")  # an earlier test has left its layout
    predicted = gpus.run(check=True, selected="all-balanced")
    assert set(predicted) == set(HOSTS)
    assert gpus.run(selected="all-balanced") == predicted, "the check predicted another number of changes"
    assert min(predicted.values()) > 0
    for host in HOSTS:
        gpus.of(host).on("nvml-sim calls --reset >/dev/null")
    assert set(gpus.run(selected="all-balanced").values()) == {0}
    for host in HOSTS:
        assert json.loads(gpus.of(host).on("nvml-sim calls"))["changing"] == 0
    gpus.witness()
    predicted = gpus.run(check=True, state="absent")
    assert gpus.run(state="absent") == predicted
    assert min(predicted.values()) > 0
    assert set(gpus.run(state="absent").values()) == {0}
    gpus.witness()


def test_neighbours_live_on_and_clients_wait(clients: Gpus) -> None:
    before, comfyui = clients.uuids(), clients.on("cat /run/comfyui.pid")
    clients.on("setsid sleep infinity >/dev/null 2>&1 & echo $! > /run/train.pid")
    clients.on(f"nvml-sim process add 1 $(cat /run/train.pid) --instance {clients.instance(1, '3g.40gb')}")
    wish: dict[str, Any] = {"config": only({"1g.10gb": 4, "3g.40gb": 1})}
    predicted = clients.run(check=True, **wish)
    assert clients.log() == []
    assert clients.uuids() == before
    assert clients.run(**wish) == predicted
    assert clients.log() == ["stop slurmd", "stop ollama", "cdi", "start ollama", "start slurmd"]
    assert clients.profiles(0) == ["1g.10gb"] * 4 + ["3g.40gb"]
    after = clients.uuids()
    assert {place: uuid for place, uuid in before.items() if place != (0, 2)}.items() <= after.items(), "a neighbour lost its UUID"
    assert clients.on("cat /run/comfyui.pid") == comfyui
    assert clients.on("kill -0 $(cat /run/train.pid) && echo alive") == "alive"
    clients.witness()


def test_a_stranger_is_named_and_nothing_is_stopped(clients: Gpus) -> None:
    before = clients.uuids()
    clients.on("systemd-run --quiet --collect --unit=stranger sleep infinity")
    pid = clients.on("systemctl show --value --property=MainPID stranger")
    clients.on(f"nvml-sim process add 0 {pid} --instance {clients.instance(0, '1g.10gb')}")
    output = clients.fails(clients.start_run(config=only({"7g.80gb": 1})))
    assert re.search(rf"GPU 0, GPU instance \d+: \S*sleep \(pid {pid}, unit stranger.service\)", output), output
    assert "Nothing was stopped or changed" in output
    assert "(unit ollama" not in output
    assert clients.log() == []
    assert clients.uuids() == before
    clients.on(f"nvml-sim process remove 0 {pid}")


@pytest.mark.parametrize(("wish", "said"), [
    ({"config": only({"3g.40gb": 3})}, "3g.40gb"),
    ({}, "a label is needed"),
])
@pytest.mark.deep
def test_what_cannot_be_fails_before_anything_is_touched(clients: Gpus, wish: dict[str, Any], said: str) -> None:
    clients.on("nvml-sim calls --reset >/dev/null")
    assert said in clients.fails(clients.start_run(**wish))
    assert json.loads(clients.on("nvml-sim calls"))["changing"] == 0
    assert clients.log() == []


def test_a_change_that_fails_is_put_back_and_clients_start(clients: Gpus) -> None:
    before = clients.uuids()
    clients.on("nvml-sim fault nvmlGpuInstanceCreateComputeInstance* 2 INSUFFICIENT_RESOURCES")
    output = clients.fails(clients.start_run(config=only({"1g.10gb": 4, "3g.40gb": 1})))
    assert "Everything was put back" in output
    assert clients.uuids() == before
    assert clients.log() == ["stop slurmd", "stop ollama", "cdi", "start ollama", "start slurmd"]


@pytest.mark.deep
def test_a_module_that_is_killed_alone(clients: Gpus) -> None:
    """The run goes on to its end and starts the clients; the next one finishes."""
    before = clients.uuids()
    clients.on("nvml-sim fault nvmlDeviceCreateGpuInstance* 2 kill")
    clients.fails(clients.start_run(config=only({"1g.10gb": 4, "3g.40gb": 1})))
    assert (0, 2) in before
    assert clients.profiles(0) == ["1g.10gb"] * 3 + ["3g.40gb"]
    assert clients.log() == ["stop slurmd", "stop ollama", "cdi", "start ollama", "start slurmd"]
    clients.run(config=only(BALANCED))
    assert clients.uuids() == before


@pytest.mark.parametrize(("moment", "goal"), [
    ("a destroyed instance", {"1g.10gb": 4, "3g.40gb": 1}),
    pytest.param("the start of the clients", {"1g.10gb": 4, "3g.40gb": 1}, marks=pytest.mark.deep),
])
def test_a_killed_run_is_finished_by_the_next(clients: Gpus, moment: str, goal: dict[str, int]) -> None:
    wish: dict[str, Any] = {"config": only(goal)}
    wanted = [profile for profile, count in sorted(goal.items()) for _ in range(count)]
    if moment == "the start of the clients":
        slow = "/run/systemd/system/ollama.service.d/slow.conf"
        clients.on(f"mkdir -p $(dirname {slow}); printf '[Service]\\nExecStartPre=/bin/sleep 30\\n' > {slow}; systemctl daemon-reload")
        clients.kill_when(clients.start_run(**wish), lambda: clients.on("systemctl is-active ollama", check=False) == "activating")
        clients.on(f"rm {slow}; systemctl daemon-reload; systemctl stop ollama")
        assert clients.profiles(0) == wanted
    else:
        clients.on("nvml-sim fault nvmlDeviceCreateGpuInstance* 1 delay=5000")
        clients.kill_when(clients.start_run(**wish), lambda: clients.on("ls /var/lib/forja/mig/journal.json", check=False) != "")
        assert clients.on("systemctl is-active slurmd ollama", check=False).split() == ["inactive", "inactive"]
        assert clients.profiles(0).count("2g.20gb") == 0
        clients.on("nvml-sim faults clear")
    assert clients.on(f"stat -c %a {NOTE}") == "600"
    assert clients.run(**wish)[AMPERE] > 0
    assert clients.profiles(0) == wanted
    assert clients.on("systemctl is-active slurmd ollama").split() == ["active", "active"]


@pytest.mark.deep
def test_what_a_killed_run_stopped_starts_even_if_the_next_can_make_no_plan(clients: Gpus) -> None:
    clients.on("nvml-sim fault nvmlDeviceCreateGpuInstance* 1 delay=5000")
    run = clients.start_run(config=only({"1g.10gb": 4, "3g.40gb": 1}))
    clients.kill_when(run, lambda: clients.on("ls /var/lib/forja/mig/journal.json", check=False) != "")
    clients.on("nvml-sim faults clear")
    assert clients.on("systemctl is-active slurmd ollama", check=False).split() == ["inactive", "inactive"]
    assert "3g.40gb" in clients.fails(clients.start_run(config=only({"3g.40gb": 3})))
    assert clients.on("systemctl is-active slurmd ollama").split() == ["active", "active"]


@pytest.mark.deep
@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize("name", HOSTS)
def test_a_restart_makes_the_layout_again_before_the_clients(gpus: Gpus, name: str) -> None:
    """A100 keep the mode, H100 nothing."""
    host = gpus.of(name)
    if not host.uuids():
        host.run(selected="all-balanced")
    before = host.uuids()
    host.restart()
    assert host.uuids() == before
    assert host.on("systemctl is-active forja-mig") == "active"
    if name == AMPERE:
        asked = "systemctl show --value --property={} {}"
        done = int(host.on(asked.format("ExecMainExitTimestampMonotonic", "forja-mig")))
        assert 0 < done <= int(host.on(asked.format("ExecMainStartTimestampMonotonic", "ollama")))


@pytest.mark.deep
def test_nvidias_own_service_does_not_undo_the_layout_at_boot(clients: Gpus) -> None:
    """It comes after the role, and has its boot again when ours is disabled."""
    clients.on(f"cat > /etc/systemd/system/nvidia-mig-manager.service <<'END'\n{MIG_MANAGER}END\n"
               "systemctl enable nvidia-mig-manager 2>/dev/null")
    clients.restart()
    assert "mig-manager" not in clients.log()
    assert clients.on("systemctl show --value --property=ConditionResult nvidia-mig-manager") == "no"
    clients.on("systemctl disable forja-mig 2>/dev/null")
    clients.restart()
    assert "mig-manager" in clients.log()
    clients.on("systemctl disable nvidia-mig-manager 2>/dev/null; rm /etc/systemd/system/nvidia-mig-manager.service")
    assert clients.run(config=only(BALANCED))[AMPERE] > 0
    clients.witness()


@pytest.mark.deep
def test_a_broken_configuration_is_a_failed_unit_and_no_hang(clients: Gpus) -> None:
    clients.on("echo '{\"version\": \"v1\", \"mig-configs\": {\"lab\": 7}}' > /etc/forja/mig.yaml")
    clients.restart()
    assert clients.on("systemctl is-active slurmd ollama comfyui").split() == ["active"] * 3
    assert clients.on("systemctl is-failed forja-mig") == "failed"
    assert "lab" in clients.on("journalctl --unit=forja-mig --boot --output=cat --no-pager")
    clients.run(config=only(BALANCED))
    assert clients.on("systemctl is-active forja-mig") == "active"


@pytest.fixture
def passed_through(balanced: Gpus) -> Iterator[Gpus]:
    """The Debian 12 host as a virtual machine with one A100, which only its hypervisor can reset."""
    machine = {"gpus": [{"model": "a100-80gb", "passthrough": True}]}
    dropin = "/etc/systemd/system/lab-nvml.service.d/passed-through.conf"
    balanced.on(f"echo '{json.dumps(machine)}' > /root/machine.json; nvml-sim boot /root/machine.json; mkdir -p $(dirname {dropin})\n"
                "sed 's|$(cat /srv/machine/nvml-simulator)|/root/machine.json|' /usr/local/lib/forja-nvml/on-boot > /root/on-boot\n"
                f"chmod +x /root/on-boot; printf '[Service]\\nExecStart=\\nExecStart=/root/on-boot\\n' > {dropin}; systemctl daemon-reload")
    yield balanced
    balanced.on(f"rm {dropin}; systemctl daemon-reload; nvml-sim boot a100-pcie-pair")


@pytest.mark.deep
@pytest.mark.parametrize("reset", ["never", "allowed"])
def test_a_mode_that_only_a_reboot_changes(passed_through: Gpus, reset: str) -> None:
    """Whether to reboot is forja_reboot's."""
    host = passed_through
    told = " ".join(host.passes(host.start_run(selected="all-balanced", reset=reset)).split())
    only_with = "a reset of the GPU or a reboot" if reset == "never" else "a reboot: Resetting"
    assert re.search(rf"MIG mode of GPU 0 \(\S+\) changes only with {only_with}", told[told.index("PLAY RECAP") :]), told
    assert host.uuids() == {}
    told = host.passes(host.role(["mig", "reboot"], mig_selected="all-balanced", mig_reset=reset, forja_reboot="if_required"))
    assert "all-balanced: 4 devices on 1 GPU" in told
    assert host.profiles(0) == sorted(["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"])
    assert host.on("systemctl is-active forja-mig") == "active"
    assert host.run(selected="all-balanced", reset=reset) == {AMPERE: 0}
