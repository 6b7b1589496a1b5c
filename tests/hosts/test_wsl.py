# SPDX-License-Identifier: Apache-2.0
"""A WSL2 host: no Linux driver is there or can come, systemd is on, and services find the libraries of Windows."""

from collections.abc import Mapping
from typing import Any

import pytest

DRIVERS = ("nvidia-driver", "nvidia-kernel", "nvidia-dkms", "nvidia-open", "libnvidia-compute", "libnvidia-ml1", "libcuda1", "cuda-drivers")

pytestmark = pytest.mark.role("wsl")


@pytest.fixture(autouse=True)
def _only_wsl2(host: Any, variables: Mapping[str, Any]) -> None:
    root = str(variables.get("gpu_detect_root", "/")).rstrip("/")
    if "microsoft" not in host.run("cat %s/proc/sys/kernel/osrelease", root).stdout.lower():
        pytest.skip("for WSL2")


def test_systemd_is_on_at_the_next_start(host: Any, variables: Mapping[str, Any]) -> None:
    if not variables["wsl_systemd"]:
        pytest.skip("for wsl_systemd: true")
    script = "import configparser as c; p = c.ConfigParser(strict=False); p.read('/etc/wsl.conf'); print(p['boot']['systemd'])"
    assert host.check_output("python3 -c %s", script).lower() == "true"


def test_no_package_of_a_linux_driver_is_installed(host: Any) -> None:
    names = host.check_output("dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\\n'").splitlines()
    assert [name for name in names if name.startswith("ii") and name.split()[-1].startswith(DRIVERS)] == []


@pytest.mark.parametrize("package", ["nvidia-driver", "nvidia-open", "cuda-drivers", "libnvidia-ml1"])
def test_apt_installs_no_linux_driver(host: Any, package: str) -> None:
    """Whether the host's repositories have the package or not."""
    policy = host.check_output("LC_ALL=C apt-cache policy %s", package)
    assert not policy or "Candidate: (none)" in policy


def test_apt_still_installs_what_is_no_driver(host: Any) -> None:
    assert "Candidate: (none)" not in host.check_output("LC_ALL=C apt-cache policy docker.io ca-certificates")


@pytest.mark.parametrize("path", ["/etc/modprobe.d/forja-nouveau.conf", "/proc/driver/nvidia"])
def test_nothing_of_a_kernel_driver_is_there(host: Any, path: str) -> None:
    assert not host.file(path).exists


def test_ollama_finds_the_libraries_of_windows(host: Any, variables: Mapping[str, Any]) -> None:
    if "ollama" not in variables.roles or variables["ollama_state"] == "absent":  # type: ignore[attr-defined]
        pytest.skip("for hosts with Ollama")
    environment = host.check_output("systemctl show ollama.service --property=Environment --value").split()
    assert "LD_LIBRARY_PATH=/usr/lib/wsl/lib" in environment
    process = host.check_output("tr '\\0' '\\n' < /proc/$(systemctl show ollama.service --property=MainPID --value)/environ")
    assert "LD_LIBRARY_PATH=/usr/lib/wsl/lib" in process.splitlines()
