"""Reboots: the driver, the block reboot after it, and MIG after that, in one run.

The host really boots anew. The kernel that then finds nouveau or nvidia is a stand-in: a unit that changes the machine's tree by what
the host's own files say, nvidia where it has a module and nouveau is kept away.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .drivers import KERNEL, MACHINE, MOUNT, NO_NOUVEAU, Drivers, machine

HOST = "ws12"
pytestmark = pytest.mark.host(name=HOST)
OLD, NEW = "595.58.03", "595.71.05"
BOOT = f"""#!/bin/sh
# Stand-in of the Forja lab for a kernel that loads a driver for the GPUs.
set -e
{MOUNT}
cd {MACHINE}
driver=nouveau
module=/lib/modules/{KERNEL}/updates/dkms/nvidia.ko
if [ ! -e /srv/lab-only-nouveau ] && [ -e $module ] && grep -qs '^blacklist nouveau' /etc/modprobe.d/*; then driver=nvidia; fi
rm -rf sys/module/nouveau sys/module/nvidia proc/driver/nvidia
mkdir -p sys/module/$driver sys/bus/pci/drivers/$driver proc/driver/nvidia
for device in sys/devices/pci/*; do
  if [ "$(cat $device/vendor)" = 0x10de ]; then ln -sfn ../../../bus/pci/drivers/$driver $device/driver; fi
done
if [ $driver = nvidia ]; then
  version=$(modinfo --field version $module)
  echo $version > sys/module/nvidia/version
  echo "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  $version  Release Build" > proc/driver/nvidia/version
fi
if [ $driver = nvidia ] && [ -e /srv/lab-gpus.json ]; then
  cd /usr/local/lib/forja-nvml
  ./nvml-sim start /srv/lab-gpus.json
  ln -sf $PWD/libnvidia-ml.so.1 /usr/local/lib/libnvidia-ml.so.1
  ln -sf $PWD/nvml-sim /usr/local/bin/
  ldconfig
  mountpoint -q /proc/driver || mount -t tmpfs -o mode=0755 tmpfs /proc/driver
  mkdir -p /proc/driver/nvidia-caps
  ./nvml-sim mig-minors > /proc/driver/nvidia-caps/mig-minors
fi
"""
# The GPU of the machine for programs that use NVML, which the stand-in simulates once a driver is loaded.
GPUS = {"about": "One H100 of the lab.", "driver": NEW, "gpus": [{"model": "h100-80gb-sxm", "address": "0000:05:00.0"}]}
NO_GPUS = "umount /proc/driver; rm -f /srv/lab-gpus.json /usr/local/lib/libnvidia-ml.so.1 /usr/local/bin/nvml-sim; ldconfig"
UNIT = """[Unit]
Description=Stand-in of the Forja lab for a kernel that loads a driver for the GPUs
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/lab-kernel
[Install]
WantedBy=multi-user.target
"""
BOOTED = "systemctl show --property=UserspaceTimestampMonotonic"
REBOOT = "TASK [reboot : Reboot the host]"
BLOCKS = ["nvidia_driver", "reboot"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with machine([HOST], "h200-vm", tmp_path_factory.mktemp("inventory")) as found:
        found.make_kernel()
        for path, content in (("/usr/local/sbin/lab-kernel", BOOT), ("/etc/systemd/system/lab-kernel.service", UNIT)):
            found.on(f"cat > {path} <<'END'\n{content}END")
        found.on("chmod +x /usr/local/sbin/lab-kernel; systemctl enable --quiet lab-kernel.service")
        files = "/etc/systemd/system/lab-kernel.service /usr/local/sbin/lab-kernel"
        found.undo.append((HOST, f"systemctl disable --quiet lab-kernel.service; rm {files}"))
        yield found


@pytest.mark.deep
def test_reboots_once_where_the_driver_needs_it(host: Drivers) -> None:
    booted = host.on(BOOTED)
    wish: dict[str, Any] = {"source": "nvidia", "version": OLD, "forja_reboot": "if_required"}
    predicted = host.passes(host.start_role(BLOCKS, check=True, **wish))
    assert REBOOT in predicted
    assert host.on(BOOTED) == booted, "the check rebooted"
    output = host.passes(host.start_role(BLOCKS, **wish))
    assert host.on(BOOTED) != booted
    assert output.index(REBOOT) < output.index("TASK [Go on]")
    # Whatever follows in the play knows the new driver, and the driver's report is of after the reboot.
    assert f"known driver: {OLD}" in output
    assert "done: nouveau holds 0000:05:00.0" in output
    assert "reboot required" not in output.rpartition("PLAY RECAP")[2]
    # With the driver loaded nothing is left to do.
    booted = host.on(BOOTED)
    second = host.passes(host.start_role(BLOCKS, **wish))
    assert f"H200 SXM 141GB (nvidia {OLD} open)" in second
    assert "changed=0 " in second
    assert REBOOT not in second
    assert second.count("Look at the GPUs, the platform and the driver]") == 1
    assert host.on(BOOTED) == booted


def without_driver(host: Drivers) -> None:
    """Remove the driver, and have nouveau hold the GPU."""
    if "nouveau" not in host.on(f"readlink {MACHINE}/sys/bus/pci/devices/0000:05:00.0/driver"):
        host.passes(host.start_role(BLOCKS, state="absent", forja_reboot="if_required"))
    assert "nouveau" in host.on(f"readlink {MACHINE}/sys/bus/pci/devices/0000:05:00.0/driver")


def test_driver_reboot_and_mig_in_one_run(host: Drivers) -> None:
    without_driver(host)
    host.on(f"echo '{json.dumps(GPUS)}' > /srv/lab-gpus.json")
    host.undo.append((HOST, NO_GPUS))
    booted = host.on(BOOTED)
    wish: dict[str, Any] = {"source": "nvidia", "version": NEW, "forja_reboot": "if_required", "mig_selected": "all-1g.10gb"}
    try:
        output = host.passes(host.start_role([*BLOCKS, "mig"], **wish))
        assert output.index(REBOOT) < output.index("TASK [mig : ")
        assert host.on(BOOTED) != booted
        gpu = json.loads(host.on("nvml-sim show"))["gpus"][0]
        assert [one["profile"] for one in gpu["instances"]] == ["1g.10gb"] * 7
        booted = host.on(BOOTED)
        assert "changed=0 " in host.passes(host.start_role([*BLOCKS, "mig"], **wish))
        assert host.on(BOOTED) == booted
    finally:
        host.passes(host.role("mig", mig_state="absent", **host.facts))


@pytest.mark.deep
def test_a_reboot_that_does_not_help_is_not_repeated(host: Drivers) -> None:
    """The kernel keeps nouveau, whatever the blacklist says: one reboot, then a problem that names the reason."""
    without_driver(host)
    host.on("touch /srv/lab-only-nouveau")
    wish: dict[str, Any] = {"source": "nvidia", "version": NEW, "forja_reboot": "if_required"}
    try:
        first = host.passes(host.start_role(BLOCKS, **wish))
        assert first.count(REBOOT) == 1
        assert "A reboot did not help: nouveau holds 0000:05:00.0" in first
        booted = host.on(BOOTED)
        second = host.passes(host.start_role(BLOCKS, **wish))
        assert REBOOT not in second
        assert "A reboot did not help: nouveau holds 0000:05:00.0" in second
        assert host.on(BOOTED) == booted
    finally:
        host.on("rm /srv/lab-only-nouveau /run/forja-reboot-reasons")  # the second as any boot by hand would


@pytest.mark.deep
def test_only_reports_unless_it_may_reboot(host: Drivers) -> None:
    if OLD not in host.on(f"cat {MACHINE}/sys/module/nvidia/version", check=False):
        host.passes(host.start_role(BLOCKS, source="nvidia", version=OLD, forja_reboot="if_required"))
    booted = host.on(BOOTED)
    output = host.passes(host.start_role(BLOCKS, source="nvidia", version=NEW))
    assert f"reboot required: NVIDIA {OLD} is loaded and not {NEW}" in output
    assert "or set forja_reboot: if_required" in output
    assert f"known driver: {NEW}" in output
    assert REBOOT not in output
    assert host.on(BOOTED) == booted


@pytest.mark.deep
def test_power_cut_while_the_driver_goes(host: Drivers) -> None:
    """The packages are gone when it happens: then nouveau must not be kept away any more."""
    module, hook = f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko", "/etc/apt/apt.conf.d/99lab-power-cut"
    if host.on(f"ls {module}", check=False) == "":
        host.run(source="nvidia", version=NEW)
    assert host.on(NO_NOUVEAU) != ""
    host.on(f"""echo 'DPkg::Post-Invoke {{ "touch /run/gone; exec sleep 600"; }};' > {hook}""")
    try:
        host.kill_when(host.start_role(state="absent"), lambda: host.on("ls /run/gone", check=False) != "")
    finally:
        host.on(f"pkill -x -f 'sleep 600'; rm -f {hook} /run/gone", check=False)
    assert host.on(f"ls {module}", check=False) == ""
    assert host.on(NO_NOUVEAU, check=False) == ""
    assert min(host.run(state="absent").values()) > 0, "what was left is still there"
