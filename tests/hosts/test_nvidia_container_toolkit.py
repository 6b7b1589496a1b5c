# SPDX-License-Identifier: Apache-2.0
"""A host with the role nvidia_container_toolkit, asked without Ansible."""

import json
import re
from typing import Any

import pytest

from tests.hosts import cuda_probe
from tests.hosts.wanted import Wanted

pytestmark = [pytest.mark.role("nvidia_container_toolkit"), pytest.mark.journal("nvidia-cdi-refresh.service")]

PACKAGES = ("libnvidia-container1", "libnvidia-container-tools", "nvidia-container-toolkit-base", "nvidia-container-toolkit")
GENERATED = "/var/run/cdi/nvidia.yaml"
LIBRARY = re.compile(r"hostPath: (\S+/libcuda\.so\.(\d{3}\.[\d.]*\d))")


@pytest.fixture(autouse=True)
def _left_out(host: Any, variables: Wanted) -> None:
    """A workstation gets the toolkit for a GPU of NVIDIA's, unless its inventory says otherwise."""
    if not variables.get("workstation_nvidia_container_toolkit", True):
        pytest.skip("workstation_nvidia_container_toolkit is false")
    if "workstation" in variables.roles and not host.package("nvidia-container-toolkit").is_installed:
        root = variables["gpu_detect_root"]
        vendors = host.run(f"cat {root}/sys/bus/pci/devices/*/vendor").stdout.split()
        if "0x10de" not in vendors and not host.file(f"{root}/dev/dxg").exists:
            pytest.skip("no GPU of NVIDIA's is in this host")


@pytest.fixture
def driver(host: Any, variables: Wanted) -> str:
    """The version of the loaded driver."""
    file = host.file(f"{variables['gpu_detect_root']}/sys/module/nvidia/version")
    if not file.exists:
        pytest.skip("no driver of NVIDIA's is loaded, so there is nothing that a specification could name")
    return str(file.content_string).strip()


@pytest.fixture
def docker(host: Any, variables: Wanted) -> str:
    """The version of the engine."""
    if not variables["nvidia_container_toolkit_docker"]:
        pytest.skip("nvidia_container_toolkit_docker is false")
    return str(host.check_output("docker version --format '{{.Server.Version}}'"))


def test_the_four_packages_are_one_set_and_held(host: Any, variables: Wanted) -> None:
    rows = host.check_output("dpkg-query --show --showformat='${db:Status-Abbrev} ${Version} ${Package}\\n' " + " ".join(PACKAGES))
    version = f"{variables['nvidia_container_toolkit_version']}-1"
    assert sorted(row.split() for row in rows.splitlines()) == sorted(["hi", version, name] for name in PACKAGES)


def test_docker_knows_the_runtime_and_reads_cdi(host: Any, docker: str) -> None:
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert settings["runtimes"]["nvidia"]["path"].endswith("nvidia-container-runtime")
    assert settings["features"]["cdi"] is True
    assert "nvidia" in json.loads(host.check_output("docker info --format '{{json .Runtimes}}'")), f"Docker {docker} does not know it"


def test_the_runtime_has_its_mode(host: Any, variables: Wanted) -> None:
    lines = host.file("/etc/nvidia-container-runtime/config.toml").content_string.splitlines()
    assert [line for line in lines if re.match(r"mode\b", line)] == [f'mode = "{variables["nvidia_container_toolkit_mode"]}"']


def test_the_specification_is_refreshed_at_boot_and_after_an_upgrade(host: Any) -> None:
    assert host.service("nvidia-cdi-refresh.service").is_enabled
    assert host.service("nvidia-cdi-refresh.path").is_enabled
    assert host.service("nvidia-cdi-refresh.path").is_running


def test_at_boot_it_is_refreshed_before_containers_start(host: Any, docker: str, variables: Wanted) -> None:
    """/run is empty after a boot, and Docker does not try a container again that lacks a device."""
    if tuple(map(int, variables["nvidia_container_toolkit_version"].split("."))) < (1, 19, 1):
        pytest.skip(f"before 1.19.1 the unit waits for multi-user.target, to which Docker {docker} belongs")
    dropin = host.file("/etc/systemd/system/nvidia-cdi-refresh.service.d/forja.conf")
    assert "Before=docker.service" in dropin.content_string.splitlines()


def test_device_nodes_get_their_links_when_the_driver_is_loaded(host: Any, variables: Wanted) -> None:
    if not variables["nvidia_container_toolkit_dev_char_links"] or host.file("/dev/dxg").exists:
        pytest.skip("the links are for the driver's own device nodes, and can be switched off")
    rules = [host.file(f"/etc/udev/rules.d/{name}").content_string for name in host.file("/etc/udev/rules.d").listdir()]
    assert any("/bus/pci/drivers/nvidia" in rule and "create-dev-char-symlinks" in rule for rule in rules)


def test_one_specification_of_the_loaded_driver(host: Any, driver: str) -> None:
    folders = [folder for folder in ("/etc/cdi", "/var/run/cdi") if host.file(folder).exists]
    files = [f"{folder}/{name}" for folder in folders for name in host.file(folder).listdir() if name.endswith((".yaml", ".json"))]
    specs = [path for path in files if "nvidia.com/gpu" in host.file(path).content_string]
    assert specs == [GENERATED]
    text = host.file(GENERATED).content_string
    assert {version for _path, version in LIBRARY.findall(text)} == {driver}
    nodes = re.findall(r"path: (/dev/\S+)", text)
    assert nodes
    assert [node for node in nodes if not host.file(node).exists] == []


def test_cuda_starts_in_a_container(host: Any, driver: str, docker: str) -> None:
    """nvidia-smi is no proof: it needs NVML alone."""
    path, _version = LIBRARY.findall(host.file(GENERATED).content_string)[0]
    if host.check_output(f"head --bytes=4 {path} | od -An -tx1").split() != ["7f", "45", "4c", "46"]:
        pytest.skip(f"{path} of driver {driver} is a stand-in, with which no CUDA starts")
    gpus = cuda_probe.CDI if int(docker.split(".")[0]) >= 25 else cuda_probe.RUNTIME
    try:
        host.check_output(cuda_probe.BUILD)
        assert host.check_output(cuda_probe.run(gpus, cuda_probe.CU_INIT)) == "0"
    finally:
        host.run(cuda_probe.REMOVE)
