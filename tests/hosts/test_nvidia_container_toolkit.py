# SPDX-License-Identifier: Apache-2.0
"""A host with the role nvidia_container_toolkit, asked without Ansible."""

import json
import re
from typing import Any

import pytest

pytestmark = [pytest.mark.role("nvidia_container_toolkit"), pytest.mark.journal("nvidia-cdi-refresh.service")]

PACKAGES = ("libnvidia-container1", "libnvidia-container-tools", "nvidia-container-toolkit-base", "nvidia-container-toolkit")


def test_the_four_packages_are_one_set(host: Any) -> None:
    versions = {host.package(name).version for name in PACKAGES if host.package(name).is_installed}
    assert all(host.package(name).is_installed for name in PACKAGES)
    assert len(versions) == 1


def test_docker_knows_the_runtime_and_reads_cdi(host: Any) -> None:
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert settings["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    assert settings["features"]["cdi"] is True
    runtimes = json.loads(host.check_output("docker info --format '{{json .Runtimes}}'"))
    assert "nvidia" in runtimes


def test_the_specification_is_refreshed_at_boot_and_after_a_driver_upgrade(host: Any) -> None:
    assert host.service("nvidia-cdi-refresh.service").is_enabled
    assert host.service("nvidia-cdi-refresh.path").is_enabled


def driver(host: Any) -> str:
    """The loaded driver's version; empty where none is loaded. The lab's hosts simulate a machine below /srv/machine."""
    root = "/srv/machine" if host.file("/srv/machine/sys").exists else ""
    file = host.file(f"{root}/sys/module/nvidia/version")
    return str(file.content_string).strip() if file.exists else ""


def test_one_specification_of_the_loaded_driver(host: Any) -> None:
    version = driver(host)
    if not version:
        pytest.skip("no driver is loaded, so there is nothing that a specification could name")
    folders = [folder for folder in ("/etc/cdi", "/var/run/cdi") if host.file(folder).exists]
    files = [f"{folder}/{name}" for folder in folders for name in host.file(folder).listdir() if name.endswith((".yaml", ".json"))]
    specs = [path for path in files if "nvidia.com/gpu" in host.file(path).content_string]
    assert specs == ["/var/run/cdi/nvidia.yaml"]
    text = host.file(specs[0]).content_string
    assert set(re.findall(r"libcuda\.so\.(\d{3}\.[\d.]*\d)", text)) == {version}
    assert [node for node in re.findall(r"path: (/dev/\S+)", text) if not host.file(node).exists] == []
