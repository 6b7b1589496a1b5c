"""Ollama: installed whole, running with what was asked, reachable for whom it should be and for nobody else."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.role("ollama"), pytest.mark.journal("ollama.service")]

API = "http://127.0.0.1:11434"


def test_service_runs_now_and_at_boot(host: Any) -> None:
    service = host.service("ollama")
    assert service.is_running
    assert service.is_enabled


def test_release_is_whole_and_alone(host: Any) -> None:
    command = host.file("/usr/local/bin/ollama")
    assert command.is_symlink
    releases = host.file("/opt/forja/ollama").listdir()
    assert command.linked_to == f"/opt/forja/ollama/{releases[0]}/bin/ollama"
    assert len(releases) == 1, f"leftovers of other or interrupted installations: {releases}"
    assert host.file(f"/opt/forja/ollama/{releases[0]}/lib/ollama").is_directory


def test_environment_is_what_was_asked(host: Any) -> None:
    environment = host.check_output("systemctl show ollama.service --property=Environment --value")
    assert "OLLAMA_HOST=0.0.0.0:11434" in environment.split()
    assert host.file("/etc/systemd/system/ollama.service.d/forja.conf").mode == 0o644


def test_service_runs_as_its_own_user(host: Any) -> None:
    pid = host.check_output("systemctl show ollama.service --property=MainPID --value")
    assert host.process.get(pid=pid).user == "ollama"


def test_models_are_there_by_digest(host: Any, variables: dict[str, Any]) -> None:
    stored = {m["name"]: m["digest"] for m in json.loads(host.check_output(f"curl --fail --silent {API}/api/tags"))["models"]}
    wanted = {m["name"]: m["digest"] for m in variables["ollama_models"]}
    assert wanted, "the inventory names no model: this test would prove nothing"
    # The inventory quotes a digest from the lab's offer by its name; the API shows the hexadecimal part alone.
    offered = variables.get("lab_models", {})
    expected = {name: str(offered.get(f"library/{name}", digest)).removeprefix("sha256:") for name, digest in wanted.items()}
    assert {name: stored.get(name) for name in wanted} == expected


def test_container_reaches_ollama(host: Any, variables: dict[str, Any]) -> None:
    image = f"{variables['forja_registry']}/forja/hello:1"
    answer = host.check_output(
        "docker run --rm --add-host=host.docker.internal:host-gateway %s wget -q -O - http://host.docker.internal:11434/api/version", image)
    assert "version" in json.loads(answer)


def test_fence_is_up_before_the_service(host: Any) -> None:
    with host.sudo():
        rules = host.check_output("nft list table inet forja_ollama")
    assert "tcp dport 11434 jump guard" in rules
    assert host.check_output("systemctl show ollama.service --property=ExecStartPre").count("/etc/ollama-fence.nft") == 1


def test_fence_outlives_a_restart_of_the_firewall(host: Any) -> None:
    """nftables.service flushes all tables when it starts, reloads and stops: ours must be back each time.

    Asked of systemd's merged unit, since a flush would take the lab's own name service (Docker's rules) along.
    """
    unit = host.check_output("systemctl cat nftables.service")
    for moment in ("ExecStartPost", "ExecReload", "ExecStopPost"):
        assert f"{moment}=/usr/sbin/nft -f /etc/ollama-fence.nft" in unit


@pytest.mark.lab
def test_neighbour_is_kept_out(host: Any, variables: dict[str, Any]) -> None:
    """Another host of the network reaches this one's SSH but not its Ollama."""
    from testinfra import get_host  # here, because the neighbour is another host than the one under test

    inventory = host.backend.ansible_inventory
    neighbour = get_host("ansible://mirror", ansible_inventory=inventory)
    address = variables["lab_address"]
    assert neighbour.run("curl --silent --max-time 3 telnet://%s:22 </dev/null", address).stdout.startswith("SSH-")
    refused = neighbour.run("curl --silent --max-time 3 http://%s:11434/", address)
    assert refused.rc == 28, f"expected a time-out (28) at the fence, got {refused.rc}: {refused.stdout}"


def test_gpu_helper_may_raise_privileges(host: Any) -> None:
    """nvidia-modprobe is setuid: a service that may not gain privileges cannot make /dev/nvidia-uvm."""
    assert host.check_output("systemctl show ollama.service --property=NoNewPrivileges --value") == "no"
