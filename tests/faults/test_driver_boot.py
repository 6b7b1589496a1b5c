"""Reboots and what is done at boot: the role's own reboot, and the key that waits for the next one.

The host really boots anew. The kernel that then finds nouveau or nvidia is a stand-in: a unit that changes the machine's tree by what
the host's own files say, nvidia where it has a module and nouveau is kept away.
"""

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
if [ -e $module ] && grep -qs '^blacklist nouveau' /etc/modprobe.d/*; then driver=nvidia; fi
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
"""
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
REBOOT = "RUNNING HANDLER [nvidia_driver : Nvidia driver - reboot]"


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


def test_reboots_once_where_the_driver_needs_it(host: Drivers) -> None:
    booted = host.on(BOOTED)
    wish: dict[str, Any] = {"source": "nvidia", "version": OLD, "forja_reboot": "if_required"}
    predicted = host.run(check=True, **wish)
    assert host.on(BOOTED) == booted, "the check rebooted"
    output = host.passes(host.start_role(**wish))
    assert f"changed={predicted[HOST]} " in output, "the check predicted another number of changes"
    assert host.on(BOOTED) != booted
    assert output.index(REBOOT) < output.index("TASK [Go on]")
    # Whatever follows in the play knows the new driver, for which the role looked a second time.
    assert f"known driver: {OLD}" in output
    assert output.count("Look at the GPUs, the platform and the driver]") == 2
    # With the driver loaded nothing is left to do.
    booted = host.on(BOOTED)
    second = host.passes(host.start_role(**wish))
    assert f"H200 SXM 141GB (nvidia {OLD} open)" in second
    assert "changed=0 " in second
    assert REBOOT not in second
    assert second.count("Look at the GPUs, the platform and the driver]") == 1
    assert host.on(BOOTED) == booted


def test_only_reports_unless_it_may_reboot(host: Drivers) -> None:
    if OLD not in host.on(f"cat {MACHINE}/sys/module/nvidia/version", check=False):
        host.run(source="nvidia", version=OLD, forja_reboot="if_required")
    booted = host.on(BOOTED)
    output = host.passes(host.start_role(source="nvidia", version=NEW))
    assert f"reboot required: NVIDIA {OLD} is loaded and not {NEW}" in output
    assert f"known driver: {NEW}" in output
    assert REBOOT not in output
    assert host.on(BOOTED) == booted


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
