# SPDX-License-Identifier: Apache-2.0
"""What a host must look like that the role nvidia_driver was on, asked of dpkg, apt, systemd and files.

For hosts of the group nvidia_driver, whose inventory says with `nvidia_driver_*` what is wanted; and for workstations, which get the
driver where a GPU of NVIDIA's has none.
"""

import re
from typing import Any

import pytest

pytestmark = [pytest.mark.role("nvidia_driver", state="any"), pytest.mark.journal("nvidia-persistenced.service")]

DRIVER = re.compile(
    r"(nvidia-(?!container|cuda|docker|driver-pinning)|libnvidia-(?!container|egl)|libcuda1$|firmware-nvidia(?!-graphics)|cuda-drivers"
    r"|linux-modules-nvidia)"
)
CARRIER = re.compile(r"libnvidia-(ml1|compute)|nvidia-(smi|utils|driver-cuda|kernel.*dkms|open-kernel-dkms|dkms)")
FILES = [f"/etc/{name}" for name in (
    "apt/preferences.d/forja-nvidia-driver", "apt/apt.conf.d/52forja-nvidia-driver", "modprobe.d/forja-nvidia-driver.conf"
)]


@pytest.fixture
def packages(host: Any) -> dict[str, tuple[str, str]]:
    """Name -> selection and version of the installed packages of the driver."""
    rows = host.check_output(r"dpkg-query --show --showformat='${Package} ${db:Status-Abbrev} ${Version}\n'").splitlines()
    found = [row.split() for row in rows]
    return {name: (status, version) for name, status, version in found if DRIVER.match(name) and status[1] == "i"}


# What the kernel binds each GPU of NVIDIA's to, nothing where it binds none.
BOUND = """cd %s/sys/bus/pci/devices 2>/dev/null || exit 0
for it in *; do
  case "$(cat "$it/vendor" "$it/class" | tr '\\n' ' ')" in
  "0x10de 0x03"*) basename "$(readlink "$it/driver" || echo none)" ;;
  esac
done"""


@pytest.fixture
def state(host: Any, variables: dict[str, Any]) -> str:
    """What the role must have come to: present, absent, alone (there was a driver, or none belongs here), or off."""
    if "nvidia_driver" in variables["group_names"]:
        return str(variables.get("nvidia_driver_state", "present"))
    if not variables.get("workstation_nvidia_driver", True):
        return "off"
    bound = set(host.check_output(BOUND, str(variables.get("gpu_detect_root", "")).rstrip("/")).split())
    without = bool(bound) and not {"nvidia", "vfio-pci"} & bound
    # After the reboot a driver that the role installed is bound like any other; its files tell.
    return "present" if without or host.file(FILES[-1]).exists else "alone"


@pytest.fixture
def present(state: str) -> None:
    if state != "present":
        pytest.skip(f"this is for hosts that get a driver; here it is {state}")


@pytest.fixture
def absent(state: str) -> None:
    if state != "absent":
        pytest.skip(f"this is for hosts that lose it; here it is {state}")


def modules(host: Any) -> dict[str, bool]:
    """Release of each kernel whose image is installed -> whether it has a module of NVIDIA's."""
    kernels = host.run("ls /lib/modules").stdout.split()
    bootable = [kernel for kernel in kernels if host.file(f"/boot/vmlinuz-{kernel}").exists]
    return {kernel: host.run("find /lib/modules/%s -name 'nvidia*.ko*'", kernel).stdout != "" for kernel in bootable}


def blacklisted(host: Any) -> bool:
    return bool(host.run("grep -rqs '^blacklist nouveau' /etc/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d").rc == 0)


def test_a_host_is_never_left_with_neither_driver(host: Any) -> None:
    without = [kernel for kernel, has in modules(host).items() if not has]
    assert not (blacklisted(host) and without), f"nouveau may not load, and these kernels have no module of NVIDIA's: {without}"


@pytest.mark.usefixtures("present")
def test_the_driver_is_of_one_version(packages: dict[str, tuple[str, str]], variables: dict[str, Any]) -> None:
    versions = {version.split("-")[0] for name, (_status, version) in packages.items() if CARRIER.match(name)}
    assert len(versions) == 1, packages
    assert versions.pop().startswith(str(variables.get("nvidia_driver_version", "")))


@pytest.mark.usefixtures("present")
def test_the_set_is_held(host: Any, packages: dict[str, tuple[str, str]]) -> None:
    # Ubuntu's modules come with new kernels, and depend on exactly the driver that is held.
    packages = {name: told for name, told in packages.items() if not name.startswith("linux-modules-nvidia")}
    assert [name for name, (status, _version) in packages.items() if status[0] != "h"] == []
    blocked = re.findall(r'Package-Blacklist:: "(.*)";', host.check_output("apt-config dump Unattended-Upgrade"))
    assert [name for name in packages if not any(re.match(pattern, name) for pattern in blocked)] == []
    others = ("libnvme1", "nvidia-container-toolkit", "libnvidia-container1")
    assert not any(re.match(pattern, other) for pattern in blocked for other in others)


@pytest.mark.usefixtures("present")
def test_one_source_only(host: Any, packages: dict[str, tuple[str, str]], variables: dict[str, Any]) -> None:
    source = {"nvidia": "developer.download.nvidia.com"}.get(variables.get("nvidia_driver_source", ""), "")
    carrier = next(name for name in packages if CARRIER.match(name))
    policy = host.check_output("apt-cache policy %s", carrier)
    installed = re.search(r"\*\*\* (\S+) .*\n((?: {8}.*\n?)*)", policy)
    assert installed, policy
    assert source in installed[2]


@pytest.mark.usefixtures("present")
def test_nouveau_stays_away(host: Any) -> None:
    assert blacklisted(host)
    images = host.run("ls /boot/initrd.img-*").stdout.split()
    unaware = [image for image in images if "forja-nvidia-driver.conf" not in host.run("lsinitramfs %s", image).stdout]
    assert unaware == []


@pytest.mark.usefixtures("present")
def test_the_persistence_daemon_waits_for_the_driver(host: Any, variables: dict[str, Any]) -> None:
    unit = "nvidia-persistenced.service"
    wanted = variables.get("nvidia_driver_persistence", True)
    assert host.service(unit).is_enabled is wanted
    settings = host.check_output("systemctl cat %s", unit)
    assert ("--persistence-mode" in settings) is wanted
    assert host.run("systemctl is-failed %s", unit).stdout.strip() != "failed"
    if host.file("/proc/driver/nvidia/version").exists:
        assert host.service(unit).is_running is wanted


@pytest.mark.usefixtures("present")
def test_apt_is_content(host: Any) -> None:
    assert host.run("apt-get check").rc == 0
    assert host.check_output("dpkg --audit") == ""


@pytest.mark.usefixtures("absent")
def test_nothing_is_left(host: Any, packages: dict[str, tuple[str, str]]) -> None:
    assert packages == {}
    assert [path for path in FILES if host.file(path).exists] == []
    assert not host.file("/etc/systemd/system/nvidia-persistenced.service.d").exists
    assert host.run("ls /etc/apt/sources.list.d | grep nvidia-driver").stdout == ""
    assert not blacklisted(host)


def test_what_works_is_left_alone(host: Any, state: str) -> None:
    if state != "alone":
        pytest.skip(f"this is for hosts that need no driver; here it is {state}")
    assert [path for path in FILES if host.file(path).exists] == []
    assert not host.file("/etc/systemd/system/nvidia-persistenced.service.d/forja.conf").exists
