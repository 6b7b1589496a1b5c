"""A workstation as a whole: what listens to the world, and what a restart or a daily upgrade may not break."""

from collections.abc import Mapping
from typing import Any

import pytest

pytestmark = pytest.mark.role("workstation")

LOOPBACK = ("127.", "[::1]", "localhost")


@pytest.fixture
def wide(host: Any) -> set[str]:
    """The TCP ports on which something listens beyond loopback."""
    lines = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    return {line.split()[3].rpartition(":")[2] for line in lines if not line.split()[3].startswith(LOOPBACK)}


def ollama_port(variables: Mapping[str, Any]) -> str:
    return str(variables["ollama_host"]).rpartition(":")[2] or "11434"


def test_ollama_listens_on_the_network_only_if_the_inventory_says_so(wide: set[str], variables: Mapping[str, Any]) -> None:
    if str(variables["ollama_host"]).startswith(LOOPBACK):
        assert wide & {ollama_port(variables)} == set()
    else:
        assert {ollama_port(variables)} <= wide


@pytest.mark.lab
def test_only_known_ports_are_open_beyond_loopback(wide: set[str], variables: Mapping[str, Any]) -> None:
    """SSH, and Ollama behind its fence. Docker's embedded name server of the lab listens on loopback."""
    assert wide <= {"22", ollama_port(variables)}


def test_no_unit_failed(host: Any, variables: Mapping[str, Any]) -> None:
    """On a real host, of Forja's own: others may have failed for other reasons."""
    failed = {line.split()[0] for line in host.check_output("systemctl list-units --failed --no-legend --plain").splitlines()}
    ours = {"docker.service", "containerd.service", "ollama.service", "nftables.service", "nvidia-persistenced.service"}
    assert (failed if "lab_address" in variables else failed & ours) == set()


def test_engine_does_not_listen_on_the_network(host: Any) -> None:
    """Docker's API is as good as root: only the socket offers it."""
    arguments = host.check_output("tr '\\0' ' ' < /proc/$(pidof -s dockerd)/cmdline")
    assert "tcp://" not in arguments
    assert host.file("/run/docker.sock").mode == 0o660
