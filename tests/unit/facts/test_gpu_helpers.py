# SPDX-License-Identifier: Apache-2.0
"""The pure helpers of gpu_facts, as tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.facts import azure, azure_sizes, holders, jetpack, jetson, pci, recommend
from plugins.module_utils.forja.facts import boot as boot_state
from plugins.module_utils.forja.facts import dpkg as packages
from plugins.module_utils.forja.facts import kernels as kernel_modules
from plugins.module_utils.forja.facts import models as gpu_models
from plugins.module_utils.forja.facts import pci_ids as gpu_ids
from plugins.module_utils.forja.facts import platform as host_platform
from plugins.module_utils.forja.facts import survey as gpu_survey
from plugins.module_utils.forja.host.files import HostFiles
from tests.lab.machines import match
from tests.lab.machines.build import build, elf_with_modinfo

# Device ids. The MIG sheet's ids and the driver sheet's examples must be there with their architecture.


@pytest.mark.parametrize(
    ("device", "name", "architecture", "capability"),
    [
        ("20b7", "NVIDIA A30 PCIe", "Ampere", "8.0"),
        ("20b0", "NVIDIA A100 SXM4 40GB", "Ampere", "8.0"),
        ("20b5", "NVIDIA A100 PCIe 80GB", "Ampere", "8.0"),
        ("2330", "NVIDIA H100 SXM5 80GB", "Hopper", "9.0"),
        ("2335", "NVIDIA H200 SXM 141GB", "Hopper", "9.0"),
        ("2342", "NVIDIA GH200 120GB / 480GB", "Hopper", "9.0"),
        ("2901", "NVIDIA B200", "Blackwell", "10.0"),
        ("2941", "NVIDIA HGX GB200", "Blackwell", "10.0"),
        ("3182", "NVIDIA B300 SXM6 AC", "Blackwell", "10.3"),
        ("2bb5", "NVIDIA RTX PRO 6000 Blackwell Server Edition", "Blackwell", "12.0"),
        ("2e12", "NVIDIA GB10", "Blackwell", "12.1"),
        ("2b00", "NVIDIA Jetson AGX Thor", "Blackwell", "11.0"),
        ("1eb8", "NVIDIA Tesla T4", "Turing", "7.5"),
        ("2236", "NVIDIA A10", "Ampere", "8.6"),
        ("26b9", "NVIDIA L40S", "Ada", "8.9"),
        ("1db6", "NVIDIA Tesla V100 PCIe 32GB", "Volta", "7.0"),
        ("15f8", "NVIDIA Tesla P100 PCIe 16GB", "Pascal", "6.0"),
        ("1b38", "NVIDIA Tesla P40", "Pascal", "6.1"),
        ("13f2", "NVIDIA Tesla M60", "Maxwell", "5.2"),
        ("2302", "NVIDIA GH100", "Hopper", "9.0"),
        ("102d", "NVIDIA GPU 10de:102d", "before Maxwell", None),
        ("ffff", "NVIDIA GPU 10de:ffff", None, None),
    ],
)
def test_nvidia_model(device: str, name: str, architecture: str | None, capability: str | None) -> None:
    model = gpu_models.describe("10de", device)
    assert (model.name, model.architecture, model.compute_capability) == (name, architecture, capability)


@pytest.mark.parametrize(("vendor", "table"), [("10de", gpu_ids.NVIDIA), ("1002", gpu_ids.AMD), ("8086", gpu_ids.INTEL)])
def test_every_line_of_the_table_has_an_architecture(vendor: str, table: str) -> None:
    lines = table.strip().splitlines()
    assert lines == sorted(lines)
    for line in lines:
        assert gpu_models.describe(vendor, line[:4]).architecture, line


@pytest.mark.parametrize(
    ("device", "code", "told"),
    [("10de:ffff", "0302", True), ("10de:2330", "0302", False), ("1002:ffff", "1200", True), ("1002:ffff", "0300", False)],
)
def test_what_is_newer_than_the_table_is_told(device: str, code: str, told: bool, tmp_path: Path) -> None:
    build({"pci": {"0000:01:00.0": {"id": device, "class": code}}}, tmp_path)
    problems = gpu_survey.survey(HostFiles(str(tmp_path)), match.means({}))["problems"]
    assert [problem["name"] for problem in problems] == (["gpu_unknown"] if told else [])


def test_amd_generations_that_share_a_code_name() -> None:
    assert gpu_models.describe("1002", "74a1").architecture == "CDNA 3"
    assert gpu_models.describe("1002", "75a0").architecture == "CDNA 4"


@given(st.from_regex(r"[0-9a-f]{4}", fullmatch=True), st.sampled_from(["10de", "1002", "8086", "1234"]))
def test_any_id_has_a_name(device: str, vendor: str) -> None:
    assert gpu_models.describe(vendor, device).name


@pytest.mark.parametrize(
    ("told", "wanted"),
    [("00000000:07:00.0", "0000:07:00.0"), ("0001:00:00.0", "0001:00:00.0"), ("0000AB12:0F:00.0", "ab12:0f:00.0"), ("x", "x")],
)
def test_normal_address(told: str, wanted: str) -> None:
    assert pci.normal_address(told) == wanted


def test_old_chipset_bridges_are_no_switches(tmp_path: Path) -> None:
    build({"pci": {"0000:00:00.0": {"id": "10de:0369", "class": "0680"}, "0000:07:00.0": {"id": "10de:1af1", "class": "0680"}}}, tmp_path)
    assert pci.scan(HostFiles(str(tmp_path))).nvswitch == 1


# Azure sizes: every row of the fact sheet, in the spelling that Azure uses.


@pytest.mark.parametrize(
    ("size", "model", "gpus", "share", "driver", "fabric"),
    [
        ("Standard_NC64as_T4_v3", "T4", 4, "1", "open", "none"),
        ("Standard_NC96ads_A100_v4", "A100", 4, "1", "open", "none"),
        ("Standard_NC80adis_H100_v5", "H100 NVL", 2, "1", "open", "none"),
        ("Standard_NCC40ads_H100_v5", "H100 NVL", 1, "1", "open", "none"),
        ("Standard_NC36lds_xl_RTXPRO6000BSE_v6", "RTX PRO 6000", 1, "1/4", "grid", "none"),
        ("Standard_NC288lds_xl_RTXPRO6000BSE_v6", "RTX PRO 6000", 2, "1", "grid", "none"),
        ("Standard_NC16ads_A10_v4", "A10", 1, "1", "grid", "none"),
        ("Standard_ND40rs_v2", "V100", 8, "1", "proprietary", "none"),
        ("Standard_ND96asr_v4", "A100 SXM4 40GB", 8, "1", "open", "fabric_manager"),
        ("Standard_ND96amsr_A100_v4", "A100 SXM4 80GB", 8, "1", "open", "fabric_manager"),
        ("Standard_ND96is_H200_v5", "H200", 8, "1", "open", "fabric_manager"),
        ("Standard_ND128isr_NDR_GB200_v6", "GB200", 4, "1", "open", "imex"),
        ("Standard_ND128isrG5_GB300_v6", "GB300", 4, "1", "open", "imex"),
        ("Standard_ND96isr_MI300X_v5", "MI300X", 8, "1", "rocm", "none"),
        ("Standard_NV12ads_A10_v5", "A10", 1, "1/3", "grid", "none"),
        ("Standard_NV36adms_A10_v5", "A10", 1, "1", "grid", "none"),
        ("Standard_NV72ads_A10_v5", "A10", 2, "1", "grid", "none"),
        ("Standard_NV28adms_V710_v5", "V710", 1, "1", "rocm", "none"),
        ("Standard_NG8ads_V620_v1", "V620", 1, "1/4", "none", "none"),
        ("Standard_NV48s_v3", "M60", 4, "1", "grid", "none"),
        ("Standard_NC24rs_v3", "V100", 4, "1", "proprietary", "none"),
        ("Standard_NC24r", "K80", None, "1", "none", "none"),
    ],
)
def test_azure_size(size: str, model: str, gpus: int | None, share: str, driver: str, fabric: str) -> None:
    for spelling in (size, size.upper(), size.lower()):
        family = azure.size_family(spelling)
        assert family is not None, spelling
        assert model in family.model
        assert (family.gpus, family.share, family.driver, family.fabric) == (gpus, share, driver, fabric)


@pytest.mark.parametrize("size", ["Standard_D4s_v5", "Standard_NC24", "", None, "Standard_NC999_X_v9", "Standard_NP10s"])
def test_azure_size_outside_the_table(size: str | None) -> None:
    family = azure.size_family(size)
    assert family is None or family.model.endswith("K80")


@pytest.mark.parametrize("size", ["Standard_NG8ads_V620_v1", "Standard_NC24r", "Standard_NV8as_v4", "Standard_NV12", "Standard_ND6s"])
def test_the_reason_of_an_azure_size_is_a_sentence(size: str) -> None:
    azure_record, _problems = azure.record(lambda: json.dumps({"vmSize": size}))
    reason = recommend.recommend(facts(azure=azure_record, kind="azure"))[0]["reasons"]["driver"]
    assert reason.endswith(".")
    assert "memory" not in reason


def test_a_new_gpu_size_is_reported_and_a_plain_one_is_not() -> None:
    assert "not in Forja's table" in azure.record(lambda: '{"vmSize": "Standard_NC999_X_v9"}')[1][0]
    assert azure.record(lambda: '{"vmSize": "Standard_D4s_v5"}')[1] == []


def test_azure_table_uses_known_words() -> None:
    for family in azure_sizes.SIZES:
        assert family.driver in ("open", "proprietary", "grid", "rocm", "none")
        assert family.fabric in ("none", "fabric_manager", "imex")


# Jetson


@pytest.mark.parametrize(
    ("line", "l4t", "jetpack_release", "reported"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64", "36.4.3", "6.2", False),
        ("# R35 (release), REVISION: 4.1, GCID: 1, BOARD: t186ref", "35.4.1", "5.1.2", False),
        ("# R39 (release), REVISION: 2.2, GCID: 1", "39.2.2", "7.2.2", False),
        ("# R39 (release), REVISION: 4.0, GCID: 1", "39.4.0", "7.2.2", True),
        ("# R32 (release), REVISION: 7.9, GCID: 1", "32.7.9", "4.6.6", True),
        ("# R41 (release), REVISION: 1.0, GCID: 1", "41.1.0", None, True),
        ("rubbish", None, None, True),
    ],
)
def test_jetpack(line: str, l4t: str | None, jetpack_release: str | None, reported: bool, tmp_path: Path) -> None:
    build(
        {"files": {"/etc/nv_tegra_release": line + "\n", "/proc/device-tree/compatible": "nvidia,p3767-0003\\0nvidia,tegra234\\0"}},
        tmp_path,
    )
    record, problems = jetson.record(HostFiles(str(tmp_path)), None)
    assert (record["l4t"], record["jetpack"], bool(problems)) == (l4t, jetpack_release, reported)
    assert record["module_name"] == "Jetson Orin Nano 8GB"


def test_l4t_from_the_package_when_the_file_is_missing(tmp_path: Path) -> None:
    build({"files": {"/proc/device-tree/compatible": "nvidia,p3701-0005\\0nvidia,tegra234\\0"}}, tmp_path)
    assert jetson.record(HostFiles(str(tmp_path)), "36.4.3-20250107174145")[0]["jetpack"] == "6.2"


@pytest.mark.parametrize(
    ("boot", "mib", "wanted"),
    [
        ("TNSPEC jetson-agx-thor-devkit", 60000, "Jetson T5000"),
        ("TNSPEC x-t4000-y", 126000, "Jetson T4000"),
        ("", 126000, "Jetson T5000"),
        ("", 60000, None),
    ],
)
def test_thor_modules(boot: str, mib: int, wanted: str | None, tmp_path: Path) -> None:
    files = {
        "/proc/device-tree/compatible": "nvidia,tegra264\\0",
        "/etc/nv_boot_control.conf": boot,
        "/proc/meminfo": f"MemTotal: {mib * 1024} kB\n",
        "/etc/nv_tegra_release": "# R38 (release), REVISION: 4.0",
    }
    build({"files": files}, tmp_path)
    assert jetson.record(HostFiles(str(tmp_path)), None)[0]["module_name"] == wanted


@pytest.mark.parametrize(
    ("compatible", "module", "name", "reported"),
    [
        ("nvidia,p3768-0000+p3767-0005-super\\0nvidia,tegra234\\0", "p3767-0005", "Jetson Orin Nano developer kit", False),
        ("nvidia,p3768-0000+p3777-0009\\0nvidia,tegra234\\0", "p3777-0009", None, True),
        ("nvidia,p2972-0000\\0nvidia,tegra194\\0", None, None, False),
    ],
)
def test_jetson_module(compatible: str, module: str | None, name: str | None, reported: bool, tmp_path: Path) -> None:
    build({"files": {"/proc/device-tree/compatible": compatible, "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}}, tmp_path)
    record, problems = jetson.record(HostFiles(str(tmp_path)), None)
    assert (record["module"], record["module_name"], bool(problems)) == (module, name, reported)


def test_an_unknown_soc_is_reported(tmp_path: Path) -> None:
    build(
        {"files": {"/proc/device-tree/compatible": "nvidia,tegra999\\0", "/etc/nv_tegra_release": "# R39 (release), REVISION: 2.2"}},
        tmp_path,
    )
    record, problems = jetson.record(HostFiles(str(tmp_path)), None)
    assert record["family"] is None
    assert "tegra999" in problems[0]


def test_every_wheel_belongs_to_a_release() -> None:
    releases = {release.rsplit(".", 1)[0] if release.count(".") == 2 else release for release, _cuda in jetpack.RELEASES.values()}
    assert set(jetpack.WHEELS) <= releases


# Platform


@pytest.mark.parametrize(
    ("machine", "kind"),
    [
        ({}, "bare_metal"),
        ({"kernel": "4.4.0-19041-Microsoft"}, "wsl1"),
        ({"kernel": "6.6.87.2-microsoft-standard-WSL2"}, "wsl2"),
        ({"kernel": "6.9-mine", "files": {"/proc/sys/fs/binfmt_misc/WSLInterop": "", "/dev/dxg": ""}}, "wsl2"),
        ({"kernel": "6.9-mine", "files": {"/dev/dxg": ""}}, "bare_metal"),
        ({"kernel": "6.6-microsoft-standard-WSL2", "files": {"/.dockerenv": ""}}, "container"),
        ({"kernel": "6.6-microsoft-standard-WSL2", "files": {"/.dockerenv": "", "/proc/sys/fs/binfmt_misc/WSLInterop": ""}}, "wsl2"),
        ({"kernel": "6.6-microsoft-standard-WSL2", "files": {"/.dockerenv": ""}, "folders": ["/run/WSL"]}, "wsl2"),
        ({"kernel": "6.6-microsoft-standard-WSL2", "files": {"/run/.containerenv": ""}, "folders": ["/run/WSL"]}, "container"),
        ({"dmi": {"sys_vendor": "QEMU"}}, "vm"),
        ({"dmi": {"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge"}}, "vm"),
        ({"dmi": {"sys_vendor": "Amazon EC2", "product_name": "c5.metal"}}, "bare_metal"),
        ({"dmi": {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}}, "vm"),
        ({"dmi": {"chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"}}, "azure"),
        ({"files": {"/run/cloud-init/cloud-id": "azure\n"}}, "azure"),
        ({"files": {"/proc/cpuinfo": "processor : 0\nflags\t\t: fpu vme hypervisor lahf_lm\n"}}, "vm"),
        ({"files": {"/run/systemd/container": "lxc\n"}}, "container"),
        ({"files": {"/run/systemd/container": "wsl\n"}}, "bare_metal"),
        ({"files": {"/proc/1/cgroup": "12:pids:/docker/0123\n"}}, "container"),
        ({"files": {"/sys/devices/soc0/family": "Tegra\n"}}, "jetson"),
        ({"files": {"/proc/device-tree/compatible": "raspberrypi,5\\0brcm,bcm2712\\0"}}, "bare_metal"),
    ],
)
def test_platform(machine: dict[str, Any], kind: str, tmp_path: Path) -> None:
    build(machine, tmp_path)
    found = host_platform.detect(HostFiles(str(tmp_path)))
    assert found.kind == kind
    assert found.evidence


# Boot state


@pytest.mark.parametrize(("state", "wanted"), [(None, False), (True, True), (False, False), ("unreadable", None)])
def test_secure_boot(state: Any, wanted: bool | None, tmp_path: Path) -> None:
    build({"secure_boot": state}, tmp_path)
    assert boot_state.secure_boot(HostFiles(str(tmp_path))) is wanted


@pytest.mark.parametrize(
    ("files", "by"),
    [
        ({"/etc/modprobe.d/a.conf": "blacklist nouveau\n"}, ["/etc/modprobe.d/a.conf"]),
        ({"/etc/modprobe.d/a.conf": "  install nouveau /bin/false\n"}, ["/etc/modprobe.d/a.conf"]),
        ({"/etc/modprobe.d/a.conf": "# blacklist nouveau\n"}, []),
        ({"/etc/modprobe.d/a.conf": "blacklist nouveaux\n"}, []),
        ({"/etc/modprobe.d/a.conf.bak": "blacklist nouveau\n"}, []),
        ({"/etc/modprobe.d/n.conf": "", "/lib/modprobe.d/n.conf": "blacklist nouveau\n"}, []),
        ({"/proc/cmdline": "quiet modprobe.blacklist=foo,nouveau ro\n"}, ["/proc/cmdline"]),
        ({"/proc/cmdline": "quiet modprobe.blacklist=nouveaux\n"}, []),
    ],
)
def test_nouveau_blacklist(files: dict[str, str], by: list[str], tmp_path: Path) -> None:
    build({"files": files}, tmp_path)
    assert boot_state.nouveau(HostFiles(str(tmp_path)))["blacklisted_by"] == by


# Kernel modules and packages


def dkms_tree(folder: Path, name: str) -> dict[str, Any]:
    """Three kernels; DKMS has built for the one that runs, which is neither the oldest nor the newest."""
    running = {"headers": True, "module": "updates/dkms/nvidia.ko", "version": "580.1", "flavour": "open", "dkms": "installed"}
    kernels = {"6.8.0-9-generic": {}, "6.8.0-85-generic": running, "6.8.0-100-generic": {}}
    build({"kernel": "6.8.0-85-generic", "kernels": kernels, "driver": {"version": "580.1", "flavour": "open"}}, folder)
    (folder / "var/lib/dkms/nvidia").rename(folder / "var/lib/dkms" / name)
    return gpu_survey.survey(HostFiles(str(folder)), match.means({}))


@pytest.mark.parametrize("name", ["nvidia", "nvidia-srv", "nvidia-srv-open", "nvidia-open", "nvidia-current", "nvidia-current-open"])
def test_dkms_by_every_name_of_the_driver(name: str, tmp_path: Path) -> None:
    kernels = {kernel["release"]: kernel["dkms"] for kernel in dkms_tree(tmp_path, name)["driver"]["kernels"]}
    assert kernels == {"6.8.0-85-generic": "installed", "6.8.0-9-generic": "added", "6.8.0-100-generic": "added"}


def test_dkms_matters_for_kernels_that_boot(tmp_path: Path) -> None:
    problems = dkms_tree(tmp_path, "nvidia")["problems"]
    assert [problem["name"] for problem in problems] == ["dkms_not_installed"]
    assert "6.8.0-100-generic" in problems[0]["message"]


def test_modinfo(tmp_path: Path) -> None:
    (tmp_path / "m.ko").write_bytes(elf_with_modinfo({"version": "580.126.20", "license": "Dual MIT/GPL"}))
    assert kernel_modules.modinfo(HostFiles(str(tmp_path)), "/m.ko") == {"version": "580.126.20", "license": "Dual MIT/GPL"}


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler here")
def test_modinfo_of_a_file_from_a_compiler(tmp_path: Path) -> None:
    source = 'static const char a[] __attribute__((section(".modinfo"), used)) = "version=1.2.3\\0license=NVIDIA";\n'
    (tmp_path / "m.c").write_text(source)
    subprocess.run(["gcc", "-c", "-o", str(tmp_path / "m.ko"), str(tmp_path / "m.c")], check=True)
    found = kernel_modules.modinfo(HostFiles(str(tmp_path)), "/m.ko")
    assert found["version"] == "1.2.3"
    assert kernel_modules.flavour_of_license(found["license"]) == "proprietary"


@given(st.binary(max_size=300))
def test_modinfo_of_rubbish(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("ko")
    (folder / "m.ko").write_bytes(b"\x7fELF\x02\x01" + data)
    assert isinstance(kernel_modules.modinfo(HostFiles(str(folder)), "/m.ko"), dict)


def test_packages_read_only_installed_drivers(tmp_path: Path) -> None:
    status = (
        "Package: nvidia-driver\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: nvidia-container-toolkit\nStatus: install ok installed\nVersion: 2\n\n"
        "Package: libnvidia-compute-580\nStatus: hold ok installed\nMaintainer: M\nVersion: 580.1-0ubuntu1\n\n"
        "Package: bash\nStatus: install ok installed\nVersion: 5\nDescription: x\n Package: nvidia-fake\n\n"
        "Package: cuda-drivers\nStatus: install ok installed\nVersion: 595.2-1"
    )
    build({"files": {"/var/lib/dpkg/status": status}}, tmp_path)
    found = packages.installed(HostFiles(str(tmp_path)))
    assert set(found) == {"libnvidia-compute-580", "cuda-drivers"}
    assert packages.upstream_version("1:580.126.20-0ubuntu0.24.04.1") == "580.126.20"


@pytest.mark.parametrize(
    ("installed", "version", "source", "flavour"),
    [
        ({"nvidia-driver-pinning-595": "595.71.05-1"}, None, None, None),
        ({"nvidia-driver-assistant": "0.24-1"}, None, None, None),
        ({"nvidia-opencl-dev": "12.2.140~12.2.2-2"}, None, None, None),
        ({"nvidia-kernel-common": "20240109+1"}, None, None, None),
        ({"nvidia-kernel-dkms": "550.163.01-2", "nvidia-opencl-icd": "550.163.01-2"}, "550.163.01", "distribution", "proprietary"),
        ({"nvidia-open-kernel-dkms": "550.163.01-2", "nvidia-opencl-icd": "550.163.01-2"}, "550.163.01", "distribution", "open"),
        ({"nvidia-open": "595.71.05-1"}, "595.71.05", "distribution", "open"),
        ({"libnvidia-compute-580": "580.126.20-0ubuntu0.24.04.1"}, "580.126.20", "distribution", None),
    ],
)
def test_which_packages_are_a_driver(
    installed: dict[str, str], version: str | None, source: str | None, flavour: str | None, tmp_path: Path
) -> None:
    build({"packages": installed}, tmp_path)
    driver = gpu_survey.survey(HostFiles(str(tmp_path)), match.means({}))["driver"]
    assert (driver["installed_version"], driver["source"], driver["flavour"]) == (version, source, flavour)


@pytest.mark.parametrize(
    ("listed", "source"),
    [
        (None, "nvidia_repository"),  # no list to look into: the suffix is all there is
        ("Package: cuda-toolkit\nVersion: 13.2\n\nPackage: nvidia-driver\nVersion: 550.163.01-1\n", "distribution"),
        ("Package: nvidia-driver\nArchitecture: amd64\nVersion: 550.163.01-2\n", "nvidia_repository"),
        ("Package: nvidia-driver\nVersion: 595.1-1\n\nPackage: other\nVersion: 550.163.01-2\n", "distribution"),
    ],
)
def test_nvidias_repository_for_cuda_alone(listed: str | None, source: str, tmp_path: Path) -> None:
    files = {"/etc/apt/sources.list.d/cuda.list": "deb https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64/ /\n"}
    if listed is not None:
        files["/var/lib/apt/lists/developer.download.nvidia.com_compute_cuda_repos_debian13_x86%5f64_Packages"] = listed
    build({"packages": {"nvidia-driver": "550.163.01-2"}, "files": files}, tmp_path)
    assert gpu_survey.survey(HostFiles(str(tmp_path)), match.means({}))["driver"]["source"] == source


@pytest.mark.parametrize(
    ("machine", "required"),
    [({}, True), ({"kernel": "6.6-microsoft-standard-WSL2"}, False), ({"files": {"/.dockerenv": ""}}, False)],
)
def test_only_what_boots_can_need_a_reboot(machine: dict[str, Any], required: bool, tmp_path: Path) -> None:
    build({**machine, "files": {**machine.get("files", {}), "/run/reboot-required": "", "/run/reboot-required.pkgs": "libc6\n"}}, tmp_path)
    facts = gpu_survey.survey(HostFiles(str(tmp_path)), match.means({}))
    assert facts["driver"]["reboot_required"] is required
    assert ("reboot required" in facts["summary"]) is required


# Holders


@pytest.mark.parametrize(
    ("cgroup", "unit", "container"),
    [
        ("0::/system.slice/ollama.service\n", "ollama.service", None),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/foo.service\n", "foo.service", None),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope", None),
        ("0::/system.slice/docker-" + "ab" * 32 + ".scope\n", "docker-" + "ab" * 32 + ".scope", "docker:abababababab"),
        ("12:devices:/docker/" + "cd" * 32 + "\n0::/\n", None, "docker:cdcdcdcdcdcd"),
        (
            "0::/kubepods.slice/x.slice/cri-containerd-" + "ef" * 32 + ".scope\n",
            "cri-containerd-" + "ef" * 32 + ".scope",
            "containerd:efefefefefef",
        ),
        ("0::/machine.slice/libpod-" + "01" * 32 + ".scope/container\n", "libpod-" + "01" * 32 + ".scope", "podman:010101010101"),
        ("0::/lxc.payload.train/system.slice/vllm.service\n", "vllm.service", "lxc:train"),
        ("", None, None),
    ],
)
def test_unit_and_container(cgroup: str, unit: str | None, container: str | None) -> None:
    assert holders.unit_of(cgroup) == unit
    assert holders.container_of(cgroup) == container


@pytest.mark.parametrize(
    ("cgroup", "init", "seen"),
    [
        ("0::/system.slice/ollama.service\n", "0::/init.scope\n", "0::/system.slice/ollama.service\n"),
        ("0::/docker/0a/system.slice/ollama.service\n", "0::/docker/0a/init.scope\n", "0::/system.slice/ollama.service\n"),
        (
            "1:name=systemd:/docker/0a/system.slice/docker-0b.scope\n",
            "9:cpu:/docker/0a\n1:name=systemd:/docker/0a/init.scope\n",
            "1:name=systemd:/system.slice/docker-0b.scope\n",
        ),
        ("0::/docker/0a\n", "0::/docker/0a\n", "0::/docker/0a\n"),
        ("0::/x\n", "", "0::/x\n"),
    ],
)
def test_a_container_with_a_systemd_is_a_host_of_its_own(cgroup: str, init: str, seen: str) -> None:
    assert holders.as_seen_here(cgroup, init) == seen


def test_holders_stop_in_time(tmp_path: Path) -> None:
    build({"processes": {pid: {"comm": "x", "open": ["/dev/nvidia0"]} for pid in range(2, 30)}}, tmp_path)
    gpu = dict(pci.blank_gpu(), address="0000:01:00.0", vendor="nvidia", device_nodes=["/dev/nvidia0"])
    assert holders.find(HostFiles(str(tmp_path)), [gpu], seconds=-1).finished is False
    assert len(holders.find(HostFiles(str(tmp_path)), [gpu]).by_gpu["0000:01:00.0"]) == 28


def test_holders_of_a_jetson(tmp_path: Path) -> None:
    nodes = {2: "/dev/nvhost-gpu", 3: "/dev/nvhost-ctrl-gpu", 4: "/dev/nvgpu/igpu0/channel", 5: "/dev/nvhost-vic", 6: "/dev/nvmap"}
    build({"processes": {pid: {"comm": "x", "open": [node]} for pid, node in nodes.items()}}, tmp_path)
    found = holders.find(HostFiles(str(tmp_path)), [dict(pci.blank_gpu(), vendor="nvidia")]).by_gpu
    assert [record["pid"] for record in found[holders.SHARED]] == [2, 3, 4], "the video engines are not the GPU"


def test_holders_count_what_they_may_not_see(tmp_path: Path) -> None:
    class Forbidden(HostFiles):
        def names(self, path: str) -> list[str]:
            if path == "/proc/7/fd":
                self.denied.append(path)
                return []
            return super().names(path)

    build({"processes": {7: {"comm": "secret"}}}, tmp_path)
    assert holders.find(Forbidden(str(tmp_path)), [dict(pci.blank_gpu(), vendor="nvidia")]).hidden == 1


# Recommendations


def gpu(device: str, vendor: str = "10de", driver: str | None = None) -> dict[str, Any]:
    model = gpu_models.describe(vendor, device)
    return dict(
        pci.blank_gpu(),
        vendor=gpu_models.VENDORS[vendor],
        name=model.name,
        chip=model.chip,
        architecture=model.architecture,
        compute_capability=model.compute_capability,
        driver=driver,
    )


def facts(*gpus: dict[str, Any], **changes: Any) -> recommend.Facts:
    return recommend.Facts("bare_metal", list(gpus), None, None, 0, None)._replace(**changes)


@pytest.mark.parametrize(
    ("host", "driver", "branch", "fabric", "wheel"),
    [
        (facts(gpu("13f2")), "proprietary", "580", False, "cu126"),
        (facts(gpu("15f8")), "proprietary", "580", False, "cu126"),
        (facts(gpu("1db6")), "proprietary", "580", False, "cu126"),
        (facts(gpu("1eb8")), "open", "595", False, "cu130"),
        (facts(gpu("2236")), "open", "595", False, "cu130"),
        (facts(gpu("2342")), "open", "595", False, "cu130"),
        (facts(gpu("2d05")), "open", "595", False, "cu130"),
        (facts(gpu("ffff")), "open", "595", False, "cu130"),
        (facts(gpu("102d")), "none", None, False, None),
        (facts(gpu("1db6"), gpu("1eb8")), "proprietary", "580", False, "cu126"),
        (facts(gpu("1db6"), gpu("2d05")), "none", None, False, None),
        (facts(gpu("1db6", driver="vfio-pci"), gpu("2d05")), "open", "595", False, "cu130"),
        (facts(gpu("2d05", driver="vfio-pci"), gpu("1db6")), "proprietary", "580", False, "cu126"),
        (facts(gpu("74a1", "1002"), gpu("2d05", driver="vfio-pci")), "rocm", None, False, None),
        (facts(gpu("74a1", "1002", driver="vfio-pci")), "none", None, False, None),
        (facts(dict(gpu("ffff", "1002"), pci_class="1200")), "rocm", None, False, None),
        (facts(gpu("ffff", "1002")), "none", None, False, None),
        (facts(*[gpu("2330")] * 8, nvswitch=4), "open", "595", True, "cu130"),
        (facts(*[gpu("2901")] * 8), "open", "595", True, "cu130"),
        (facts(*[gpu("2901")] * 1), "open", "595", False, "cu130"),
        (facts(*[gpu("2941")] * 4), "open", "595", False, "cu130"),
        (facts(gpu("74a1", "1002")), "rocm", None, False, None),
        (facts(gpu("744c", "1002")), "none", None, False, None),
        (facts(gpu("56c0", "8086")), "none", None, False, None),
        (facts(gpu("2684"), loaded_version="535.247.01"), "open", "595", False, "cu126"),
        (facts(gpu("2684"), loaded_version="470.256.02"), "open", "595", False, None),
        (facts(gpu("1db6"), loaded_version="535.247.01"), "proprietary", "580", False, "cu126"),
        (facts(gpu("1db6"), loaded_version="470.256.02"), "proprietary", "580", False, None),
        (facts(gpu("102d"), loaded_version="470.256.02"), "none", None, False, None),
        (facts(gpu("2d05"), loaded_version="575.57.08"), "open", "595", False, "cu128"),
        (facts(gpu("2d05"), loaded_version="565.1"), "open", "595", False, None),
        (facts(gpu("2684"), kind="wsl2", loaded_version="552.44"), "none", None, False, "cu126"),
        (facts(gpu("2684"), kind="container"), "none", None, False, "cu130"),
    ],
)
def test_recommendation(host: recommend.Facts, driver: str, branch: str | None, fabric: bool, wheel: str | None) -> None:
    record, problems = recommend.recommend(host)
    assert (record["driver"], record["branch"], record["fabric_manager"], record["cuda_wheel"]) == (driver, branch, fabric, wheel)
    assert bool(problems) == (len({found["architecture"] for found in host.gpus} & {"Volta", "Blackwell"}) == 2 and driver == "none")


@pytest.mark.parametrize(("beside", "driver"), [("2d05", "open"), ("2204", "open"), ("1db6", "proprietary")])
def test_a_card_that_no_driver_supports_does_not_decide_for_the_others(beside: str, driver: str) -> None:
    """A GeForce of 2014 for the screens beside a card that computes is a common sight."""
    record, problems = recommend.recommend(facts(gpu("128b", driver="nouveau"), gpu(beside)))
    assert record["driver"] == driver
    assert record == recommend.recommend(facts(gpu(beside)))[0]
    assert [name for name, _sentence in problems] == ["gpu_too_old"]


def test_what_is_given_away_is_named_and_what_is_not_is_not() -> None:
    record, _problems = recommend.recommend(facts(gpu("2684", driver="vfio-pci"), gpu("a7a0", "8086", driver="i915")))
    assert record["reasons"]["driver"].startswith("NVIDIA GeForce RTX 4090 is bound to vfio-pci")


@given(
    st.lists(st.sampled_from(["13f2", "1db6", "1eb8", "2330", "2d05", "ffff", "102d"]), max_size=4),
    st.sampled_from([None, "vfio-pci", "nvidia"]),
)
def test_no_recommendation_breaks_a_rule_of_the_driver(devices: list[str], bound: str | None) -> None:
    """Below Turing never open nor newer than 580; Blackwell never proprietary."""
    gpus = [gpu(device, driver=bound) for device in devices]
    record, _problems = recommend.recommend(facts(*gpus))
    architectures = {found["architecture"] for found in gpus}
    if record["driver"] == "open":
        assert not architectures & {"Maxwell", "Volta"}
    if record["driver"] == "proprietary":
        assert record["branch"] == "580"
        assert "Blackwell" not in architectures
    if bound == "vfio-pci":
        assert record["driver"] == "none"


# Reading files


def test_reader_stays_below_its_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "secret").write_text("outside")
    (root / "up").symlink_to("../../secret")
    (root / "absolute").symlink_to("/etc/name")
    (root / "loop").symlink_to("loop")
    (root / "etc" / "name").write_text("inside\n")
    files = HostFiles(str(root))
    assert files.text("/up") is None
    assert files.text("/../secret") is None
    assert files.word("/absolute") == "inside"
    assert files.text("/loop") is None
    assert files.resolve("/absolute") == "/etc/name"


def test_reader_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert HostFiles(str(tmp_path)).raw("/pipe") == b""


def test_reader_limits_and_cleans(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 100000)
    (tmp_path / "odd").write_bytes(b"\xff\x00a\x01b\n")
    files = HostFiles(str(tmp_path))
    assert len(files.raw("/big", 1000) or b"") == 1000
    assert files.text("/odd") == "\ufffd\nab\n"
    assert files.number("/odd") is None
    assert files.text("/nul\0byte") is None
    assert files.denied == []
