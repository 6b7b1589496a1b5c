# SPDX-License-Identifier: Apache-2.0
"""The module nvidia_driver_plan: one line per machine of the lab, tables for what is refused, and properties of every decision."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.module_utils.forja.apt import hold as apt_hold
from plugins.module_utils.forja.apt import packages as apt_packages
from plugins.module_utils.forja.apt import repository as apt_repository
from plugins.module_utils.forja.apt import snapshot as apt_snapshot
from plugins.module_utils.forja.apt.repository import Files, Repository
from plugins.module_utils.forja.driver import host as driver_host
from plugins.module_utils.forja.driver import package_names as driver_packages
from plugins.module_utils.forja.driver import setup as driver_setup
from plugins.module_utils.forja.driver.plan import Decision, decide, reboot_mends, remove, there, works
from plugins.module_utils.forja.driver.report import reboot_reasons, summary
from plugins.module_utils.forja.driver.rules import Host, Wish
from plugins.module_utils.forja.facts import dpkg as packages
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from plugins.module_utils.forja.host.run import Result
from plugins.modules import nvidia_driver_plan
from tests.lab.machines import match

NVIDIA = {"nvidia-driver-cuda": ["615.71.09-1", "595.71.05-1", "595.58.03-1", "580.126.20-1", "580.95.05-1"]}
NVIDIA |= dict.fromkeys(["nvidia-kernel-open-dkms", "nvidia-kernel-dkms", "nvidia-persistenced", "nvidia-open", "cuda-drivers",
                         "libnvidia-ml1", "nvidia-fabricmanager", "libnvidia-nscq"], NVIDIA["nvidia-driver-cuda"])
TRIXIE = Host("Debian", "13", "amd64", [("6.12.43+deb13-amd64", True)], {}, NVIDIA)
BOOKWORM = TRIXIE._replace(version="12", kernels=[("6.1.0-40-amd64", True)])
GENERIC = "6.8.0-85-generic"
SIGNED = {f"linux-modules-nvidia-{series}-{end}": ["6.8.0-85.85+1"]
          for series in ("595-server-open", "595-open", "580-server-open", "580-open", "580-server", "580") for end in (GENERIC, "generic")}
SIGNED |= {"nvidia-headless-no-dkms-595-server-open": ["595.71.05-0ubuntu0.24.04.1"]}
NOBLE = Host("Ubuntu", "24.04", "amd64", [(GENERIC, True)], {}, SIGNED)


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {name: match.survey(name, tmp_path_factory.mktemp(name) / "root") for name in match.NAMES}


def outcome(facts: dict[str, Any], host: Host, wish: Wish = Wish()) -> str:  # noqa: B008  (a tuple, which nothing changes)
    try:
        plan = decide(facts, host, wish)
    except ForjaError as error:
        return "refused: " + str(error)
    return " ".join(str(part) for part in (plan.action, plan.source, plan.flavour, plan.branch) if part)


# Every machine of the lab, on Debian 13 and on Ubuntu 24.04 with Canonical's signed modules.
MACHINES = {
    "a100-mig-pair": ("keep nvidia_repository open", "keep nvidia_repository open"),
    "a100-pcie-pair": ("refused: Secure Boot is on", "install distribution open 595"),
    "azure-nc-a100": ("refused: Secure Boot is on", "install distribution open 595"),
    "azure-nc-rtxpro6000-quarter": ("install grid open 595", "install grid open 595"),
    "azure-nc-v3-retired": ("install nvidia proprietary 580", "install distribution proprietary 580"),
    "azure-nd-h100": ("install nvidia open 595", "install distribution open 595"),
    "azure-nd-mi300x": ("none", "none"),
    "azure-nv-a10-sixth": ("refused: nvidia_driver_grid_releases has no release of R570", "refused: nvidia_driver_grid_releases"),
    "broken-mismatch": ("refused: NVIDIA no longer maintains R550", # 580 of Ubuntu, and Debian has none of it
                        "install distribution open 580"),
    "container-with-gpu": ("none", "none"),
    "h200-vm": ("install nvidia open 595", "install distribution open 595"),
    "hgx-h100": ("keep nvidia_repository open", "keep nvidia_repository open"),
    "jetson-nano-jp46": ("none", "none"),
    "jetson-orin-nano-jp62": ("none", "none"),
    "jetson-thor-jp71": ("none", "none"),
    "laptop-hybrid": ("keep distribution proprietary", "keep distribution proprietary"),
    "no-gpu": ("none", "none"),
    "rtx3090-open": ("keep distribution open", "keep distribution open"),
    "rtx5060-nouveau": ("install nvidia open 595", "install distribution open 595"),
    "v100-pair": ("keep nvidia_repository proprietary", "keep nvidia_repository proprietary"),
    "vfio-rtx4090": ("none", "none"),
    "wsl2-rtx4070": ("none", "none"),
    "wsl2-shadowed": ("none", "none"),
}
GRID = Wish(grid_releases=("595.58.03",))


@pytest.mark.parametrize("name", match.NAMES)
def test_every_machine_of_the_lab(machines: dict[str, Any], name: str) -> None:
    assert name in MACHINES, f"say in MACHINES what the role does on {name}"
    assert outcome(machines[name], TRIXIE, GRID).startswith(MACHINES[name][0])
    assert outcome(machines[name], NOBLE, GRID).startswith(MACHINES[name][1])


@pytest.mark.parametrize(("name", "host", "wish", "told"), [
    ("h200-vm", TRIXIE, Wish("distribution"), "refused: NVIDIA no longer maintains R550"),
    ("h200-vm", BOOKWORM, Wish("distribution"), "refused: NVIDIA no longer maintains R535"),
    ("h200-vm", BOOKWORM, Wish("distribution", allow_ended=True), "install distribution open 535"),
    ("h200-vm", TRIXIE, Wish("distribution", "580"), "refused: Debian 13 has R550 and not R580"),
    ("h200-vm", TRIXIE, Wish(version="570"), "refused: NVIDIA no longer maintains R570"),
    ("h200-vm", TRIXIE, Wish(version="570", allow_ended=True), "install nvidia open 570"),
    ("h200-vm", TRIXIE, Wish(flavour="proprietary"), "install nvidia proprietary 595"),
    ("h200-vm", TRIXIE, Wish(version="615", flavour="proprietary"), "refused: R610 is the last with a proprietary module"),
    ("h200-vm", TRIXIE, Wish(version="latest"), "refused: nvidia_driver_version is 'latest'"),
    ("h200-vm", TRIXIE._replace(version="11"), Wish(), "refused: Debian 11 is not among Debian 12, Debian 13"),
    ("rtx3090-open", NOBLE._replace(version="26.04"), Wish(), "keep distribution open"),  # It works: nothing of this role's is needed.
    ("rtx3090-open", NOBLE._replace(version="26.04", ours=True), Wish(), "keep distribution open"),
    ("rtx3090-open", NOBLE._replace(version="26.04"), Wish(upgrade=True), "refused: Ubuntu 26.04 is not among"),
    ("h200-vm", NOBLE, Wish(version="570"), "refused: NVIDIA no longer maintains R570"),
    ("h200-vm", NOBLE, Wish("distribution", "610"), "refused: Ubuntu's archive has no signed module of R610"),
    ("h200-vm", NOBLE._replace(kernels=[(GENERIC, True), ("6.11.0-9-generic", True)]), Wish(), "install nvidia open 595"),
    ("h200-vm", TRIXIE._replace(kernels=[("6.12.43+deb13-amd64", False)]), Wish(), "refused: apt has no linux-headers-6.12.43+deb13-amd64"),
    ("rtx5060-nouveau", TRIXIE, Wish("distribution", allow_ended=True), "refused: R550 does not know NVIDIA GeForce RTX 5060 (Blackwell)"),
    ("rtx5060-nouveau", TRIXIE, Wish(flavour="proprietary"), "refused: NVIDIA GeForce RTX 5060 works with the open module only"),
    ("azure-nc-v3-retired", TRIXIE, Wish(flavour="open"), "refused: NVIDIA Tesla V100 PCIe 16GB is older than Turing"),
    ("azure-nc-v3-retired", TRIXIE, Wish(version="595"), "refused: R580 is the last for GPUs older than Turing; R595"),
    ("azure-nd-h100", BOOKWORM, Wish("distribution", allow_ended=True), "refused: Debian has no fabric manager"),
    ("a100-pcie-pair", TRIXIE, Wish(secure_boot="stage_mok"), "stage_mok nvidia open 595"),
    ("a100-pcie-pair", TRIXIE._replace(mok="enrolled"), Wish(), "install nvidia open 595"),
    ("broken-mismatch", TRIXIE, Wish("nvidia", secure_boot="known_off"), "refused: The driver of this host is from the distribution"),
    ("rtx3090-open", NOBLE, Wish("nvidia"), "refused: The driver of this host is from the distribution"),
    ("rtx3090-open", NOBLE, Wish(version="580"), "install distribution open 580"),
    ("rtx3090-open", NOBLE, Wish(upgrade=True), "install distribution open 595"),
    ("azure-nc-rtxpro6000-quarter", NOBLE, Wish(grid_releases=("595.58.03",), version="570"), "refused: nvidia_driver_grid_releases"),
    ("azure-nc-rtxpro6000-quarter", NOBLE, Wish("nvidia"), "refused: Azure size"),
])
def test_what_is_asked_for(machines: dict[str, Any], name: str, host: Host, wish: Wish, told: str) -> None:
    assert outcome(machines[name], host, wish).startswith(told)


def test_a_reboot_comes_first_where_it_mends_a_mismatch(machines: dict[str, Any]) -> None:
    facts = machines["broken-mismatch"]
    assert not reboot_mends(facts), "its newest kernel has no module, which no reboot brings"
    kernels = [{**kernel, "module": "/lib/modules/x/nvidia.ko"} for kernel in facts["driver"]["kernels"]]
    mended = {**facts, "driver": {**facts["driver"], "kernels": kernels}}
    told = outcome(mended, TRIXIE, GRID)
    assert told.startswith("refused: Reboot this host first: NVIDIA 580.")
    assert "NVIDIA no longer maintains R550" in told
    assert not outcome(mended, TRIXIE, Wish(version="535")).startswith("refused: Reboot"), "another driver was asked for"


def test_an_ended_branch_that_is_gone_from_the_archive_is_not_repaired(machines: dict[str, Any]) -> None:
    facts = machines["h200-vm"]
    driver = {**facts["driver"], "source": "nvidia_repository", "installed_version": "575.57.08"}
    assert outcome({**facts, "driver": driver}, TRIXIE, Wish()) == "install nvidia open 595"
    has = TRIXIE._replace(offered={**NVIDIA, "nvidia-driver-cuda": ["575.57.08-1"]})
    assert outcome({**facts, "driver": driver}, has, Wish()) == "install nvidia open 575"


def test_a_driver_that_we_set_up_stays_complete(machines: dict[str, Any]) -> None:
    """Neither branch nor flavour changes, but a kernel that came since gets its module; what stands in the way is a note, not an error."""
    driver = {**machines["rtx3090-open"]["driver"], "source": "nvidia_repository", "flavour": "proprietary"}
    facts = {**machines["rtx3090-open"], "driver": driver, "secure_boot": False}
    host = TRIXIE._replace(ours=True, kernels=[("6.12.43+deb13-amd64", True), ("6.12.48+deb13-amd64", True)])
    plan = decide(facts, host, Wish())
    assert (plan.action, plan.source, plan.branch, plan.flavour, plan.kernels[-1]) == (
        "install", "nvidia", "580", "proprietary", "6.12.48+deb13-amd64")
    stuck = decide(facts, host._replace(kernels=[("6.12.48+deb13-amd64", False)]), Wish())
    assert (stuck.action, len(stuck.notes)) == ("keep", 1)


def test_a_driver_that_works_stays_on_the_kernels_that_it_fits(machines: dict[str, Any]) -> None:
    """A kernel that came since, and that it cannot be built for, is no reason to take it away."""
    facts, newer = machines["rtx3090-open"], "99.0.0-1-generic"
    here = next(kernel["release"] for kernel in facts["driver"]["kernels"] if kernel["module"])
    host = TRIXIE._replace(installed={"nvidia-driver-cuda": "580.126.20-1"})
    assert there(facts, host, [here, newer]) == {"installed": True, "kernels": [here]}
    idle = {**facts, "driver": {**facts["driver"], "loaded_version": None}}
    assert there(idle, host, [here, newer])["kernels"] == [here, newer], "with the newer one it would have neither"
    # What desktops bring along is no driver.
    assert not there(idle, TRIXIE._replace(installed={"libnvidia-egl-wayland1": "1", "nvidia-prime": "1"}), [])["installed"]


def test_a_grid_branch_is_not_refused_as_ended(machines: dict[str, Any]) -> None:
    wish = Wish(grid_releases=("570.211.01",))
    plan = decide(machines["azure-nv-a10-sixth"], NOBLE, wish)
    assert (plan.source, plan.version, plan.before, plan.packages) == ("grid", "570.211.01", ["dkms"], [])


def test_an_installed_grid_release_stays(machines: dict[str, Any]) -> None:
    """Without a pin and without an upgrade, whatever the branch that is recommended now."""
    driver = {**machines["azure-nv-a10-sixth"]["driver"], "source": "run", "installed_version": "595.58.03"}
    facts, known = {**machines["azure-nv-a10-sixth"], "driver": driver}, ("570.211.01", "595.71.05", "595.58.03")
    assert decide(facts, NOBLE, Wish(grid_releases=known)).version == "595.58.03"
    assert decide(facts, NOBLE, Wish(grid_releases=known, version="595", upgrade=True)).version == "595.71.05"
    assert decide(facts, NOBLE, Wish(grid_releases=known, upgrade=True)).version == "570.211.01"


def test_grid_needs_secure_boot_off(machines: dict[str, Any]) -> None:
    facts = {**machines["azure-nc-rtxpro6000-quarter"], "secure_boot": True}
    assert outcome(facts, NOBLE, GRID).startswith("refused: Microsoft's GRID driver for Linux needs Secure Boot off")


def test_a_run_file_is_not_installed_over(machines: dict[str, Any]) -> None:
    facts = machines["h200-vm"]
    facts = {**facts, "driver": {**facts["driver"], "source": "run", "installed_version": "580.95.05"}}
    assert outcome(facts, TRIXIE, Wish("nvidia")).startswith("refused: The driver of this host came from a .run file")


DEBIAN_OPEN = ["nvidia-driver-cuda=595.71.05-*", "nvidia-kernel-open-dkms=595.71.05-*", "nvidia-persistenced=595.71.05-*"]


@pytest.mark.parametrize(("name", "host", "wish", "before", "packages"), [
    ("h200-vm", TRIXIE, Wish(), ["nvidia-driver-pinning-595"], DEBIAN_OPEN),
    # Nobody knows the exact version before the repository was added.
    ("h200-vm", TRIXIE._replace(offered={}), Wish(), ["nvidia-driver-pinning-595"], [item.replace("71.05-", "") for item in DEBIAN_OPEN]),
    ("h200-vm", TRIXIE, Wish(version="595.58.03"), ["nvidia-driver-pinning-595.58.03"], [i.replace("71.05", "58.03") for i in DEBIAN_OPEN]),
    # The fabric manager has exactly the driver's version.
    ("azure-nd-h100", TRIXIE, Wish(), ["nvidia-driver-pinning-595"],
     [*DEBIAN_OPEN, "nvidia-fabricmanager=595.71.05-*", "libnvidia-nscq=595.71.05-*"]),
    # What is installed is not upgraded, and a fabric manager that is missing comes in the installed version.
    ("azure-nd-h100", TRIXIE._replace(installed={"nvidia-driver-cuda": "595.58.03-1"}), Wish(), ["nvidia-driver-pinning-595"],
     [item.replace("71.05", "58.03") for item in [*DEBIAN_OPEN, "nvidia-fabricmanager=595.71.05-*", "libnvidia-nscq=595.71.05-*"]]),
    # A downgrade takes the libraries along that were not named.
    ("h200-vm", TRIXIE._replace(installed={"libnvidia-ml1": "595.71.05-1", "nvidia-modprobe": "595.71.05-1"}), Wish(version="580.95.05"),
     ["nvidia-driver-pinning-580.95.05"], [*[i.replace("595.71.05", "580.95.05") for i in DEBIAN_OPEN], "libnvidia-ml1=580.95.05-*"]),
    ("h200-vm", BOOKWORM._replace(kernels=[("6.1.0-40-amd64", False)], offered={"linux-headers-6.1.0-40-amd64": ["6.1.153-1"]},
                                  image_packages=("linux-image-amd64",)), Wish("distribution", allow_ended=True),
     ["linux-headers-6.1.0-40-amd64", "linux-headers-amd64"],
     ["nvidia-open-kernel-dkms=535.*", "firmware-nvidia-gsp=535.*", "libcuda1=535.*", "libnvidia-ml1=535.*", "nvidia-smi=535.*",
      "nvidia-persistenced"]),
    ("h200-vm", NOBLE, Wish(), [],
     ["nvidia-headless-no-dkms-595-server-open=595.71.05-*", "nvidia-utils-595-server=595.71.05-*",
      "nvidia-compute-utils-595-server=595.71.05-*", f"linux-modules-nvidia-595-server-open-{GENERIC}",
      "linux-modules-nvidia-595-server-open-generic"]),
    ("h200-vm", NOBLE, Wish("nvidia", "580"), ["nvidia-driver-pinning-580"],
     ["libnvidia-compute-580=580.*", "nvidia-dkms-580-open=580.*", "nvidia-utils-580=580.*", "nvidia-compute-utils-580=580.*"]),
    ("h200-vm", NOBLE, Wish("nvidia", "595"), ["nvidia-driver-pinning-595"],
     ["libnvidia-compute=595.*", "nvidia-dkms-open=595.*", "nvidia-utils=595.*", "nvidia-compute-utils=595.*"]),
])
def test_packages(machines: dict[str, Any], name: str, host: Host, wish: Wish, before: list[str], packages: list[str]) -> None:
    plan = decide(machines[name], host, wish)
    assert (plan.before, plan.packages) == (before, packages)


def test_the_other_flavour_goes(machines: dict[str, Any]) -> None:
    host = TRIXIE._replace(installed={"nvidia-kernel-open-dkms": "595.71.05-1", "nvidia-driver-pinning-580": "580-1"})
    plan = decide(machines["h200-vm"], host, Wish(flavour="proprietary"))
    assert (plan.absent, plan.absent_before) == (["nvidia-kernel-open-dkms"], ["nvidia-driver-pinning-580"])


@pytest.mark.parametrize(("installed", "wish", "going"), [
    ("libnvidia-compute-580 nvidia-dkms-580-open nvidia-firmware-580-580.95.05 nvidia-imex nvidia-modprobe nvidia-driver-pinning-580",
     Wish("nvidia", "595"), "libnvidia-compute-580 nvidia-dkms-580-open nvidia-firmware-580-580.95.05"),
    ("libnvidia-compute nvidia-dkms-open nvidia-fabricmanager nvidia-imex", Wish("nvidia", "580"), "libnvidia-compute nvidia-dkms-open"),
    ("libnvidia-compute nvidia-dkms-open nvidia-kernel-common", Wish("nvidia", "595"), ""),
    (f"nvidia-utils-595-server linux-modules-nvidia-595-server-open-{GENERIC} linux-signatures-nvidia-{GENERIC}", Wish(version="580"),
     f"linux-modules-nvidia-595-server-open-{GENERIC} nvidia-utils-595-server"),
    ("libnvidia-compute-595 nvidia-fabricmanager-595 nvidia-prime", Wish(), "libnvidia-compute-595"),  # Now the one for data centers.
    ("libnvidia-compute-595 libnvidia-cfg1-595 nvidia-firmware-595-595.71.05", Wish(graphics=True), ""),
])
def test_packages_of_another_branch_go(machines: dict[str, Any], installed: str, wish: Wish, going: str) -> None:
    """For Ubuntu they exclude each other, and apt_packages removes nothing that is not named."""
    host = NOBLE._replace(installed=dict.fromkeys(installed.split(), "1"))
    assert decide(machines["h200-vm"], host, wish).absent == going.split()


def test_newer_kernel_lines_of_ubuntu_get_their_modules(machines: dict[str, Any], tmp_path: Path) -> None:
    """A release does not tell that it came with generic-hwe-24.04: the next kernel of that would come without its module."""
    rows = [f"Package: linux-image-{name}\nStatus: {status} ok installed\n\n" for name, status in (
        (GENERIC, "install"), ("generic-hwe-24.04", "hold"), ("generic-dbgsym", "install"), ("azure", "install"))]
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("".join(rows))
    images = driver_host.image_packages(HostFiles(str(tmp_path)), [GENERIC], "amd64")
    assert images == ("linux-image-generic-hwe-24.04",)
    module = "linux-modules-nvidia-595-server-open-"
    host = NOBLE._replace(image_packages=images, offered={**SIGNED, f"{module}generic-hwe-24.04": ["1"]})
    assert decide(machines["h200-vm"], host, Wish()).packages[-2:] == [f"{module}{GENERIC}", f"{module}generic-hwe-24.04"]
    assert f"{module}generic-hwe-24.04" in driver_host.candidates("Ubuntu", "amd64", [GENERIC], images, [], ["595"])


@pytest.mark.parametrize(("installed", "wish", "freed"), [
    ({}, Wish(), False),
    ({"nvidia-driver-cuda": "595.71.05-1"}, Wish(version="580"), True),
    ({"nvidia-driver-cuda": "595.71.05-1"}, Wish(), False),
    ({"nvidia-driver-cuda": "595.71.05-1", "nvidia-kernel-dkms": "595.71.05-1"}, Wish(flavour="open"), True),
])
def test_the_driver_stays_held_for_what_comes_beside_it(machines: dict[str, Any], installed: dict[str, str], wish: Wish,
                                                        freed: bool) -> None:
    decision = decide(machines["h200-vm"], TRIXIE._replace(installed=installed), wish)
    wanted = [apt_packages.wanted(item) for item in decision.packages]
    together = apt_packages.Together(list(driver_packages.SET), list(driver_packages.OTHERS), True)
    state = apt_packages.State(installed, False, marks=apt_hold.State(set(installed), set(installed)))
    assert apt_packages.plan(state, wanted, decision.absent, together=together).changes_held is freed


@pytest.mark.parametrize(("installed", "wanted"), [
    ([], True), (["nvidia-prime"], True), (["nvidia-driver-cuda"], False), (["nvidia-driver-595-open", "nvidia-utils-595"], True),
])
def test_a_driver_keeps_or_lacks_its_parts_for_displays(installed: list[str], wanted: bool) -> None:
    """Whether a display server runs at the moment decides only where there is no driver yet."""
    card = {"nodes": ["/dev/dri/card0"]}
    facts = {"gpus": [{"vendor": "nvidia", "address": "0000:01:00.0"}], "holders": {"0000:01:00.0": [card]}}
    assert nvidia_driver_plan.wants_graphics(facts, dict.fromkeys(installed, "1")) is wanted


def test_a_running_kernel_without_headers_is_a_note_when_the_newest_has_them(machines: dict[str, Any]) -> None:
    host = TRIXIE._replace(kernels=[("6.12.43+deb13-amd64", False), ("6.12.48+deb13-amd64", True)])
    plan = decide(machines["h200-vm"], host, Wish())
    assert plan.kernels == ["6.12.48+deb13-amd64"]
    assert "after a reboot into 6.12.48+deb13-amd64" in plan.notes[0]


@pytest.mark.parametrize("name", match.NAMES)
@pytest.mark.parametrize("host", [TRIXIE, NOBLE])
def test_no_module_that_the_kernel_would_refuse_comes_unasked(machines: dict[str, Any], name: str, host: Host) -> None:
    """With Secure Boot on, or unknown, nothing that is built on the host is installed, whatever the machine."""
    for state in (True, None):
        facts = {**machines[name], "secure_boot": state}
        try:
            plan = decide(facts, host, GRID)
        except ForjaError:
            continue
        assert not (plan.action == "install" and plan.dkms)


versions = st.sampled_from(["", "470", "535", "550", "570", "580", "595", "610", "615", "580.95.05", "595.71.05", "x"])
wishes = st.builds(Wish, st.sampled_from(["auto", "distribution", "nvidia"]), versions, st.sampled_from(["auto", "open", "proprietary"]),
                   st.booleans(), st.booleans(), st.sampled_from(["refuse", "stage_mok", "known_off"]), st.booleans(),
                   st.just(("595.58.03",)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wish=wishes, name=st.sampled_from(match.NAMES), host=st.sampled_from([TRIXIE, BOOKWORM, NOBLE]))
def test_every_answer_is_a_decision_or_a_reason(machines: dict[str, Any], wish: Wish, name: str, host: Host) -> None:
    facts = machines[name]
    try:
        plan = decide(facts, host, wish)
    except ForjaError:
        return
    assert plan.reason
    kind = facts["recommended"]["driver"]
    assert (plan.action == "none") == (kind in ("none", "rocm"))
    if plan.action == "install":
        assert plan.kernels, "a module for no kernel"
        blackwell = any(gpu["vendor"] == "nvidia" and gpu["architecture"] == "Blackwell" for gpu in facts["gpus"])
        assert not (blackwell and plan.flavour == "proprietary")
        # What is installed stays on its branch, ended or not: to repair it, or to take its other flavour, is no upgrade.
        kept = str(facts["driver"]["installed_version"]).partition(".")[0]
        assert plan.source == "grid" or plan.branch not in driver_packages.ENDED or wish.allow_ended or plan.branch == kept
        assert not set(plan.absent) & {item.partition("=")[0] for item in plan.packages}


def test_removal_leaves_jetsons_alone_and_what_others_use(machines: dict[str, Any]) -> None:
    host = TRIXIE._replace(installed={"nvidia-driver-cuda": "1", "libnvidia-egl-wayland1": "1", "nvidia-support": "1", "libcuda1": "1"})
    assert remove(machines["h200-vm"], host) == Decision("remove", "It was asked for.", None, absent=["libcuda1", "nvidia-driver-cuda"])
    # What dpkg could not configure goes with the rest, and Ubuntu's blacklist of nouveau.
    half = host._replace(installed={"nvidia-kernel-common-595": "1"}, halves=("nvidia-dkms-595-open",))
    assert remove(machines["h200-vm"], half).absent == ["nvidia-dkms-595-open", "nvidia-kernel-common-595"]
    assert remove(machines["wsl2-shadowed"], host).action == "remove"
    assert remove(machines["jetson-orin-nano-jp62"], host).action == "none"


def test_the_firmware_of_nouveau_is_not_the_drivers(tmp_path: Path) -> None:
    """Removed with the driver, or kept from updates, it would leave a host without a usable nouveau."""
    rows = [f"Package: {name}\nStatus: install ok {status}\nMaintainer: Debian\nVersion: 1\n" for name, status in (
        ("firmware-nvidia-graphics", "installed"), ("firmware-nvidia-gsp", "installed"), ("nvidia-kernel-dkms", "half-configured"),
        ("nvidia-smi", "config-files"))]
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("\n".join(rows))
    assert list(packages.installed(HostFiles(str(tmp_path)))) == ["firmware-nvidia-gsp"]
    assert packages.halves(HostFiles(str(tmp_path))) == ["nvidia-kernel-dkms"]
    state = apt_hold.State({"firmware-nvidia-graphics", "firmware-nvidia-gsp"}, set())
    assert apt_hold.plan(state, list(driver_packages.SET), list(driver_packages.OTHERS), True) == ["firmware-nvidia-gsp"]
    blocked = re.findall(r'^  "(.*)";$', driver_setup.UNATTENDED, re.M)
    assert [name for name in ("firmware-nvidia-graphics", "firmware-nvidia-gsp") if any(re.match(one, name) for one in blocked)] == [
        "firmware-nvidia-gsp"]


@pytest.mark.parametrize(("name", "goes"), [
    ("nvidia-kernel-open-dkms", True), ("libcuda1:amd64", True), ("firmware-nvidia-gsp", True),
    ("linux-modules-nvidia-595-server-open-generic", True), ("linux-image-6.12.43+deb13-amd64", False), ("linux-headers-nvidia", False),
    ("postgresql", False),
])
def test_a_rollback_removes_no_half_installed_package_of_others(name: str, goes: bool) -> None:
    """A kernel whose installation failed, as it does when DKMS fails in it, is not this role's to remove."""
    former = apt_snapshot.Snapshot({}, {name: "1"}, [])
    todo = apt_snapshot.plan(former, former, list(driver_packages.LEFTOVERS))
    assert todo.remove == [name] * goes


def test_every_action_has_its_chapter() -> None:
    """An action of the plan never names a file by itself."""
    role = Path(__file__).parents[3] / "roles/nvidia_driver"
    chapters = yaml.safe_load((role / "vars/main.yml").read_text())["__nvidia_driver_chapters"]
    assert set(chapters) == {"install", "remove", "stage_mok"}
    assert all((role / "tasks" / file).exists() for file in chapters.values())


def test_what_works(machines: dict[str, Any]) -> None:
    working = {name for name in match.NAMES if works(machines[name])}
    assert {"rtx3090-open", "hgx-h100", "v100-pair"} <= working
    assert not {"broken-mismatch", "rtx5060-nouveau", "no-gpu"} & working


@pytest.mark.parametrize(("name", "version", "reasons"), [
    ("h200-vm", "595.71.05", ["nouveau holds 0000:05:00.0"]),
    ("rtx3090-open", "580.126.20", []),
    ("rtx3090-open", "595.71.05", ["NVIDIA 580.126.20 is loaded and not 595.71.05"]),
    ("a100-pcie-pair", "595.71.05", ["NVIDIA 595.71.05 is not loaded yet"]),
    ("rtx3090-open", None, ["NVIDIA 580.126.20 is still loaded"]),  # after a removal
    ("h200-vm", None, []),
])
def test_reboot_reasons(machines: dict[str, Any], name: str, version: str | None, reasons: list[str]) -> None:
    assert reboot_reasons(machines[name], version, "open") == reasons


@pytest.mark.parametrize(("keys", "told"), [
    ({"architecture": "before Maxwell", "name": "GeForce GT 710"}, "install nvidia open 595"),
    ({"architecture": "Volta", "driver": "vfio-pci"}, "install nvidia open 595"),
    ({"architecture": "Volta", "name": "Tesla V100"}, "refused: Tesla V100 is older than Turing: the open module does not drive it."),
])
def test_a_gpu_that_no_driver_serves_does_not_decide_for_the_others(machines: dict[str, Any], keys: dict[str, str], told: str) -> None:
    facts = machines["h200-vm"]
    both = {**facts, "gpus": [*facts["gpus"], {**facts["gpus"][0], **keys}]}
    assert outcome(both, TRIXIE, Wish(flavour="open")).startswith(told)


def test_another_flavour_of_the_same_version_wants_a_reboot(machines: dict[str, Any]) -> None:
    told = reboot_reasons(machines["rtx3090-open"], "580.126.20", "proprietary")
    assert told == ["the open module is loaded and not the proprietary one"]


@pytest.mark.parametrize(("release", "flavour"), [
    ("6.8.0-85-generic", "generic"), ("6.12.43+deb13-amd64", "amd64"), ("6.12.43+deb13-cloud-amd64", "cloud-amd64"),
    ("6.1.0-40-amd64", "amd64"), ("6.1.0-40-rt-amd64", "rt-amd64"), ("6.8.0-1021-azure", "azure"),
    ("5.15.0-100-lowlatency-hwe-22.04", "amd64"), ("6.6.0", "amd64"),
])
def test_kernel_flavour(release: str, flavour: str) -> None:
    assert driver_packages.kernel_flavour(release, "amd64") == flavour


MAIN = driver_host.Component("Debian", "http://mirror/debian/", "trixie", "main", "", "/etc/apt/sources.list:1")
OURS = MAIN._replace(component="contrib", entry=driver_setup.PATHS["components"] + ":2")
HEAD = "# Managed by Forja: changes made here are lost.\nTypes: deb\nURIs: http://mirror/debian/\nSuites: trixie\n"


@pytest.mark.parametrize(("found", "source", "text"), [
    ([MAIN], "distribution", HEAD + "Components: contrib non-free non-free-firmware\n"),
    ([MAIN, OURS], "nvidia", HEAD + "Components: contrib\n"),
    ([MAIN._replace(signed_by="/k.gpg")], "nvidia", HEAD + "Components: contrib\nSigned-By: /k.gpg\n"),
    ([MAIN, MAIN._replace(component="contrib")], "nvidia", ""),
    ([MAIN._replace(suite="trixie-backports")], "distribution", ""),
    ([MAIN._replace(origin="Ubuntu")], "distribution", ""),
    ([MAIN], "grid", ""),
])
def test_debian_source(found: list[driver_host.Component], source: str, text: str) -> None:
    assert driver_host.debian_source(found, "trixie", source) == text


# --- what belongs to a driver besides its packages -------------------------------------------------------------------------

DECISION = Decision("install", "so", "nvidia", "open", "595", "595.71.05", before=["nvidia-driver-pinning-595"],
                    packages=["nvidia-driver-cuda=595.71.05-*"], kernels=["6.12.43+deb13-amd64"], dkms=True, fabric_manager=True)
GRID_DECISION = Decision("install", "so", "grid", "open", "595", "595.58.03", before=["dkms"], dkms=True)
ARCHIVE = {"uri": "http://mirror/cuda/", "key_fingerprint": "A" * 40, "key_sha256": "", "replaces": ["https://upstream/cuda"]}
SETUP = driver_setup.Wanted("Debian", "amd64", "contrib\n", ARCHIVE, True)
KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


class Machine:
    """A host on which nothing is lacking, below a folder; each attribute can be spoilt."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, decision: Decision = DECISION) -> None:
        self.root, self.decision, self.setup = root, decision, SETUP
        self.files = HostFiles(str(root))
        self.packages = {"nvidia-driver-cuda": "hi 595.71.05-1", "nvidia-driver-pinning-595": "ii 595-1", "dkms": "ii 3.2"}
        self.enabled = {"nvidia-persistenced.service", "nvidia-fabricmanager.service"}
        repository = Repository("nvidia-driver", "http://mirror/cuda/", ["/"], [], "amd64")
        self.sources: Files = {repository.key: KEY, repository.source: apt_repository.render_source(repository)}
        monkeypatch.setattr(apt_repository, "gather", lambda _repository: self.sources)
        monkeypatch.setattr(apt_repository, "check_key", self.check_key)
        self.write("usr/sbin/update-initramfs", "")
        for file in driver_setup.contents(decision, self.setup, True).values():
            self.write(file["path"], file["content"])
        self.write("etc/systemd/system/nvidia-persistenced.service.d/forja.conf", driver_setup._dropin(decision, self.setup).text)
        self.write("var/lib/dkms/nvidia/595.71.05/source/dkms.conf", "")
        (root / "var/lib/dkms/nvidia/kernel-6.12.43+deb13-amd64-x86_64").symlink_to("595.71.05/6.12.43+deb13-amd64/x86_64")
        self.write("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.58.03", "")
        self.write("etc/nvidia/gridd.conf", "ServerAddress=\nIgnoreSP=FALSE\nEnableUI=FALSE\n")

    def write(self, path: str, content: str) -> None:
        (self.root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path.lstrip("/")).write_text(content)

    def check_key(self, content: bytes, *_: str) -> None:
        if content != KEY:
            raise ForjaError("another key")

    def run(self, argv: list[str]) -> Result:
        if argv[0] == "systemctl":
            return Result(0 if argv[2] in self.enabled else 1, "", "")
        fields = 3 if "Version" in argv[2] else 2
        rows = [f"{name} {told}".split() for name, told in self.packages.items() if not argv[3:] or name in argv[3:]]
        return Result(0, "".join(" ".join(row[:fields]) + "\n" for row in rows), "")

    def steps(self) -> list[str]:
        return driver_setup.steps(self.run, self.files, self.decision, self.setup, "missing")


SPOILT: dict[str, tuple[Any, str]] = {
    "package": (lambda m: m.packages.update({"nvidia-driver-cuda": "hi 595.58.03-1"}), "install nvidia-driver-cuda=595.71.05-*"),
    "pin": (lambda m: m.packages.pop("nvidia-driver-pinning-595"), "install nvidia-driver-pinning-595"),
    "half installed": (lambda m: m.packages.update(dkms="iF 3.2", **{"nvidia-driver-cuda": "hF 595.71.05-1"}),
                       "complete what dpkg was interrupted in"),
    "hold": (lambda m: m.packages.update({"libnvidia-ml1": "ii 595.71.05-1"}), "hold libnvidia-ml1"),
    "module": (lambda m: (m.root / "var/lib/dkms/nvidia/kernel-6.12.43+deb13-amd64-x86_64").unlink(),
               "build nvidia 595.71.05 for 6.12.43+deb13-amd64"),
    "blacklist": (lambda m: m.write("etc/modprobe.d/forja-nvidia-driver.conf", ""), "write /etc/modprobe.d/forja-nvidia-driver.conf"),
    "initramfs": (lambda m: m.write(driver_setup.MODPROBE.known, "old"), "write " + driver_setup.MODPROBE.known),
    "preferences": (lambda m: m.write("etc/apt/preferences.d/forja-nvidia-driver", ""), "write /etc/apt/preferences.d/forja-nvidia-driver"),
    "unattended": (lambda m: m.write("etc/apt/apt.conf.d/52forja-nvidia-driver", ""), "write /etc/apt/apt.conf.d/52forja-nvidia-driver"),
    "repository": (lambda m: m.sources.update({"/etc/apt/sources.list.d/nvidia-driver.sources": None}),
                   "write /etc/apt/sources.list.d/nvidia-driver.sources"),
    "key": (lambda m: m.sources.update({"/etc/apt/keyrings/nvidia-driver.asc": b"other"}), "add NVIDIA's repository"),
    "drop-in": (lambda m: m.write("etc/systemd/system/nvidia-persistenced.service.d/forja.conf", ""), "set up nvidia-persistenced.service"),
    "daemon": (lambda m: m.enabled.remove("nvidia-persistenced.service"), "enable nvidia-persistenced.service"),
    "fabric manager": (lambda m: m.enabled.remove("nvidia-fabricmanager.service"), "enable nvidia-fabricmanager.service"),
}


@pytest.mark.parametrize("part", SPOILT)
def test_what_somebody_undid_is_left_to_do(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    assert machine.steps() == []
    spoil, step = SPOILT[part]
    spoil(machine)
    assert step in machine.steps()


@pytest.mark.parametrize(("change", "step"), [
    (lambda m: (m.root / "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.58.03").unlink(), "run Microsoft's installer"),
    (lambda m: m.write("var/cache/forja-nvidia-grid-595.58.03.run", "cut off"), "run Microsoft's installer"),
    (lambda m: m.write("etc/nvidia/gridd.conf", "IgnoreSP=FALSE\nEnableUI=FALSE\nFeatureType=0\n"), "write /etc/nvidia/gridd.conf"),
    (lambda m: m.packages.pop("dkms"), "install dkms"),
])
def test_what_is_left_to_do_of_grid(change: Any, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, GRID_DECISION)
    assert machine.steps() == []
    change(machine)
    assert step in machine.steps()


def test_without_the_persistence_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.setup = SETUP._replace(persistence=False)
    assert machine.steps() == ["set up nvidia-persistenced.service", "disable nvidia-persistenced.service"]


def test_another_source_takes_nvidias_repository_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.decision = DECISION._replace(source="distribution")
    assert "remove /etc/apt/sources.list.d/nvidia-driver.sources" in machine.steps()
    assert "write /etc/apt/preferences.d/forja-nvidia-driver" in machine.steps(), "the other source is to be kept out now"


def test_a_removal_names_all_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.decision = Decision("remove", "It was asked for.", absent=["nvidia-driver-cuda"])
    steps = machine.steps()
    assert steps[0] == "remove nvidia-driver-cuda"
    assert {f"remove {path}" for path in driver_setup.PATHS.values()} <= set(steps)


def test_what_a_failed_change_puts_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.sources["/etc/apt/sources.list.d/by-hand.list"] = b"deb https://upstream/cuda /\n"
    machine.sources["/etc/apt/keyrings/nvidia-driver.asc"] = None
    former = driver_setup.former(SETUP)
    assert former["/etc/apt/sources.list.d/by-hand.list"] == "deb https://upstream/cuda /\n"
    assert former["/etc/apt/keyrings/nvidia-driver.asc"] is None


@pytest.mark.parametrize(("decision", "line"), [
    (DECISION, "NVIDIA 595.71.05 (open) from NVIDIA's repository; reboot required: it is not loaded"),
    (DECISION._replace(source="distribution"), "NVIDIA 595.71.05 (open) from Debian; reboot required: it is not loaded"),
    (Decision("keep", "It works.", notes=["The newest kernel cannot have it."]),
     "left alone: It works. But: The newest kernel cannot have it.; reboot required: it is not loaded"),
    (Decision("none", "No GPU was found."), "no driver: No GPU was found.; reboot required: it is not loaded"),
])
def test_the_line_of_the_summary(decision: Decision, line: str) -> None:
    assert summary(decision, "Debian", ["it is not loaded"]) == line


def test_a_reboot_that_brought_nothing_is_not_repeated(tmp_path: Path) -> None:
    assert not driver_host.booted_since(HostFiles(str(tmp_path)), ["6.12"]), "of a host without a driver nothing is known"
    dep = tmp_path / "lib/modules/6.12/modules.dep"
    for path, content in ((dep, ""), (tmp_path / "proc/stat", "cpu 1 2\nbtime 1000\nprocesses 7\n")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    for written, booted in ((999, True), (1001, False)):
        os.utime(dep, (written, written))
        assert driver_host.booted_since(HostFiles(str(tmp_path)), ["6.12", "5.10"]) is booted
    assert "reboot required: it is away" in summary(DECISION, "Debian", ["it is away"])
    assert summary(DECISION, "Debian", ["it is away, although"], booted=True).endswith("; not in use: it is away, although")


def test_what_a_reboot_did_not_mend_is_a_problem(machines: dict[str, Any]) -> None:
    facts = machines["rtx5060-nouveau"]
    reboot, problems = nvidia_driver_plan.reboot_and_problems(facts, "595.71.05", DECISION, False)
    assert (len(reboot), problems) == (1, [])
    assert reboot[0].startswith("nouveau holds ")
    reboot, problems = nvidia_driver_plan.reboot_and_problems(facts, "595.71.05", DECISION, True)
    assert reboot == []
    assert "although the host has booted since the driver was changed" in problems[0]


def test_what_keeps_nouveau_away_after_a_removal_is_told() -> None:
    """A file that somebody made by hand, as most instructions say: without the driver the host has neither."""
    gone = Decision("remove", "It was asked for.")
    assert summary(gone, "Debian", []) == "removed"
    assert "/etc/modprobe.d/by-hand.conf" in summary(gone, "Debian", [], ["/etc/modprobe.d/by-hand.conf"])
    assert summary(DECISION, "Debian", [], ["/etc/modprobe.d/forja-nvidia-driver.conf"]) == summary(DECISION, "Debian", [])


def test_the_module_answers(machines: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(driver_host, "read", lambda *_: TRIXIE)
    monkeypatch.setattr(AnsibleModule, "run_command", lambda *_a, **_k: (0, "amd64\n", ""))
    values = {"facts": machines["h200-vm"], "distribution": "Debian", "distribution_version": "13", "codename": "trixie",
              "repository": {name: ARCHIVE[name] for name in ("uri", "key_fingerprint")}}
    with patch_module_args(values), pytest.raises(SystemExit) as end:
        nvidia_driver_plan.main()
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["plan"]["action"], told["reboot"], told["version"]) == ("install", [], "595.71.05")
    with patch_module_args({**values, "_ansible_check_mode": True}), pytest.raises(SystemExit):
        nvidia_driver_plan.main()
    assert json.loads(capsys.readouterr().out)["reboot"] == ["NVIDIA 595.71.05 is not loaded yet"], "check mode predicts the reboot"
    part = {name: value for name, value in machines["h200-vm"].items() if name != "recommended"}
    with patch_module_args({**values, "facts": part}), pytest.raises(SystemExit):
        nvidia_driver_plan.main()
    assert "The facts lack recommended." in json.loads(capsys.readouterr().out)["msg"]


def test_the_module_refuses(machines: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(driver_host, "read", lambda *_: TRIXIE)
    monkeypatch.setattr(AnsibleModule, "run_command", lambda *_a, **_k: (0, "amd64\n", ""))
    values = {"facts": machines["a100-pcie-pair"], "distribution": "Debian", "distribution_version": "13", "codename": "trixie",
              "repository": {name: ARCHIVE[name] for name in ("uri", "key_fingerprint")}}
    with patch_module_args(values), pytest.raises(SystemExit) as end:
        nvidia_driver_plan.main()
    assert end.value.code == 1
    assert "Enroll MOK" in capsys.readouterr().out


def test_the_newest_kernel_is_last(tmp_path: Path) -> None:
    for release in ("6.12.9+deb13-amd64", "6.12.43+deb13-amd64", "6.12.100+deb13-amd64"):
        (tmp_path / f"lib/modules/{release}/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.12.9+deb13-amd64\n")
    files = HostFiles(str(tmp_path))
    assert driver_host.driver_kernels(files) == [("6.12.9+deb13-amd64", False), ("6.12.100+deb13-amd64", False)]
