"""A workstation as a whole: what listens to the world, and what a restart or a daily upgrade may not break."""

from typing import Any

import pytest

pytestmark = pytest.mark.role("workstation")


def test_only_known_ports_are_open_beyond_loopback(host: Any) -> None:
    """SSH, and Ollama behind its fence. Docker's embedded name server of the lab listens on loopback."""
    lines = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    local = [line.split()[3] for line in lines]
    wide = {address.rpartition(":")[2] for address in local if not address.startswith(("127.", "[::1]"))}
    assert wide == {"22", "11434"}


def test_no_unit_failed(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_engine_does_not_listen_on_the_network(host: Any) -> None:
    """Docker's API is as good as root: it may be had through the socket alone."""
    arguments = host.check_output("tr '\\0' ' ' < /proc/$(pidof dockerd)/cmdline")
    assert "tcp://" not in arguments
    assert host.file("/run/docker.sock").mode == 0o660
