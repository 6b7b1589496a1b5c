# SPDX-License-Identifier: Apache-2.0
"""Programs that know nothing of the simulator find its GPUs: Debian 13's nvtop, slurmd and pynvml, in a container of the lab's host image.

Needs the tests' lab (`make test-lab`; FORJA_LAB names another one) for that image, and Debian's packages.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab.nvml.nvml_sim.layout import NAMES

INSTANCE = Path(__file__).parents[1] / "lab/instances/molecule.yml"
LAB = os.environ.get("FORJA_LAB") or yaml.safe_load(INSTANCE.read_text())["lab_name"]
HERE = "/usr/local/lib/forja-nvml"
PLUGIN = "/usr/lib/*/slurm-wlm/gpu_nvml.so"

# The binding is unpacked and not installed: its package wants NVIDIA's own library.
INSTALL = """
set -e
sed -i 's/ main$/ main contrib/' /etc/apt/sources.list
sed -i 's/^Components: main$/Components: main contrib/' /etc/apt/sources.list.d/*.sources 2>/dev/null || true
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends nvtop slurmd slurm-wlm-nvml-plugin >/dev/null 2>&1
cd /tmp
apt-get download -qq python3-pynvml
dpkg --extract python3-pynvml_*.deb /
"""

CONFIGURE = f"""
set -e
mount -t tmpfs tmpfs /proc/driver
mkdir -p /proc/driver/nvidia-caps /dev/nvidia-caps
{HERE}/nvml-sim boot a100-pcie-pair
{HERE}/nvml-sim mig-minors > /proc/driver/nvidia-caps/mig-minors
touch /dev/nvidia0 /dev/nvidia1
for number in 12 13 48 49 120 121; do touch /dev/nvidia-caps/nvidia-cap$number; done
dd if=/dev/urandom of=/etc/slurm/slurm.key bs=1024 count=1 2>/dev/null
chmod 600 /etc/slurm/slurm.key
chown slurm /etc/slurm/slurm.key
echo AutoDetect=nvml > /etc/slurm/gres.conf
echo CgroupPlugin=disabled > /etc/slurm/cgroup.conf
cat > /etc/slurm/slurm.conf <<END
ClusterName=lab
SlurmctldHost=$(hostname)
AuthType=auth/slurm
CredType=cred/slurm
GresTypes=gpu
SelectType=select/cons_tres
NodeName=$(hostname) CPUs=1 Gres=gpu:4
PartitionName=all Nodes=ALL
END
"""

# A 3g, a 2g and a 1g on the first GPU, whose ids are then 1, 5 and 13.
PARTITION = """
from pynvml import *
nvmlInit()
device = nvmlDeviceGetHandleByIndex(0)
assert nvmlDeviceSetMigMode(device, 1) == 0
for profile, compute in ((9, 2), (14, 1), (19, 0)):
    nvmlGpuInstanceCreateComputeInstance(nvmlDeviceCreateGpuInstance(device, profile), compute)
for index in range(3):
    print(nvmlDeviceGetName(nvmlDeviceGetMigDeviceHandleByIndex(device, index)))
"""


class Box:
    """A container of a lab host's image with the programs in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *argv: str, given: str = "") -> str:
        """What a program printed, on both channels."""
        command = ["docker", "exec", "--interactive", "--env", f"LD_LIBRARY_PATH={HERE}", self.name, *argv]
        done = subprocess.run(command, input=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    name = f"forja-{LAB}-nvml-programs"
    image = subprocess.run(
        ["docker", "inspect", "--format", "{{.Image}}", f"forja-{LAB}-ws13"], capture_output=True, text=True, check=True
    ).stdout.strip()
    options = ["--cap-add=SYS_ADMIN", "--security-opt=apparmor=unconfined", "--security-opt=seccomp=unconfined", "--network=host"]
    subprocess.run(["docker", "run", "--detach", "--rm", "--init", f"--name={name}", *options, image, "sleep", "900"], check=True)
    made = Box(name)
    try:
        made.run("sh", given=INSTALL)
        made.run("sh", given=CONFIGURE)
        yield made
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)


@pytest.fixture(scope="module")
def partitioned(box: Box) -> str:
    """The names that Debian's binding gives to three new MIG devices."""
    return box.run("python3", "-", given=PARTITION)


def test_debians_binding_makes_mig_devices(partitioned: str) -> None:
    assert partitioned.splitlines() == [f"NVIDIA A100 80GB PCIe MIG {name}" for name in ("3g.40gb", "2g.20gb", "1g.10gb")]


def test_nvtop_shows_the_gpus(box: Box, partitioned: str) -> None:
    gpus = json.loads(box.run("nvtop", "-s"))
    assert [one["device_name"] for one in gpus] == ["NVIDIA A100 80GB PCIe"] * 2
    # In MIG mode there is no utilisation of the whole, as on real GPUs.
    assert [one["gpu_util"] for one in gpus] == [None, "0%"]


def test_slurm_finds_gpus_and_mig_devices(box: Box, partitioned: str) -> None:
    found = re.search(r"^NodeName=.* Gres=(\S+)", box.run("slurmd", "-C"), re.MULTILINE)
    assert found
    names = [f"gpu:nvidia_a100_80gb_pcie{part}:1" for part in ("", "_1g.10gb", "_2g.20gb", "_3g.40gb")]
    assert sorted(found.group(1).split(",")) == names


def test_slurm_knows_the_nodes_of_mig_devices(box: Box, partitioned: str) -> None:
    files = re.findall(r"Gres Name=gpu .* File=(\S+)", box.run("slurmd", "-G"))
    caps = [(12, 13), (48, 49), (120, 121)]
    wanted = [f"/dev/nvidia0,/dev/nvidia-caps/nvidia-cap{gi},/dev/nvidia-caps/nvidia-cap{ci}" for gi, ci in caps]
    assert sorted(files) == sorted(["/dev/nvidia1", *wanted])


@pytest.mark.parametrize("path", ["/usr/bin/nvtop", PLUGIN])
def test_programs_miss_no_function(box: Box, path: str) -> None:
    """They look functions up when they first need them: what no test reaches must be there too."""
    text = box.run("sh", "-c", rf"tr '\000' '\n' < $(echo {path}) | grep -a '^nvml[A-Z][A-Za-z0-9_]*$'")
    assert set(text.split()) <= {*NAMES, "nvmlErrorString"}


def test_nobody_changed_anything(box: Box, partitioned: str) -> None:
    """Monitors and schedulers look; the log tells."""
    box.run(f"{HERE}/nvml-sim", "calls", "--reset")
    box.run("nvtop", "-s")
    box.run("slurmd", "-C")
    counted = json.loads(box.run(f"{HERE}/nvml-sim", "calls"))
    assert counted["total"] > 0
    assert counted["changing"] == 0
