"""Hosts of the lab with a simulated machine and their own software: what a role changes of the driver, its next run sees.

The tree that gpu_facts reads has the hardware of one of tests/lab/machines, and the host's own /etc, /usr, dpkg and DKMS mounted into it.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.machines import build

from .conftest import INVENTORY, LAB, ROOT, Lab

MACHINE = "/srv/driver-machine"
SOFTWARE = ("etc", "usr", "var/lib/dpkg", "var/lib/dkms")
MOUNT = "; ".join(f"mkdir -p /{part} {MACHINE}/{part}; mount --bind -o ro /{part} {MACHINE}/{part}" for part in SOFTWARE)
# What of a machine's description is hardware and firmware.
HARDWARE = ("about", "kernel", "pci", "dmi", "secure_boot", "modules", "processes")
KERNEL = "6.12.43+deb13-amd64"
# A kernel that was never built: the files by which DKMS and gpu_facts know one. Its headers suffice for the lab's module, and as true ones
# do they bring a compiler.
MAKE_KERNEL = f"""DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends dkms gcc
mkdir -p /lib/modules/{KERNEL}/kernel /lib/modules/{KERNEL}/build/include
cd /lib/modules/{KERNEL} && touch build/Makefile modules.order modules.builtin /boot/vmlinuz-{KERNEL}"""
NO_NOUVEAU = "grep -rs '^blacklist nouveau' /etc/modprobe.d /usr/lib/modprobe.d"
# Everything that a change of the driver may leave behind.
STATE = """dpkg-query --show --showformat='${db:Status-Abbrev} ${Package} ${Version}\\n' | grep '^.[^nc]'
cd /etc && find apt modprobe.d systemd -type f -o -type l | sort | xargs sha256sum; ls /var/lib/dkms/nvidia 2>/dev/null || true"""


class Drivers(Lab):
    """Hosts, as an inventory group whose variables say which driver is wanted."""

    def __init__(self, hosts: Iterable[str], inventory: Path) -> None:
        self.hosts = list(hosts)
        super().__init__(",".join(self.hosts), inventory)
        self.facts: dict[str, Any] = {"gpu_detect_root": MACHINE}
        self.undo: list[tuple[str, str]] = []  # host and command, for when the driver is gone
        self.bare = False  # whether the last run took the driver away, so that the end need not
        for part in INVENTORY.iterdir():
            (inventory / part.name).symlink_to(part.resolve())

    def make_kernel(self) -> None:
        """Gives the hosts a kernel that DKMS builds for, until the end."""
        self.everywhere(MAKE_KERNEL)
        self.undo += [(host, f"rm -r /lib/modules/{KERNEL} /boot/vmlinuz-{KERNEL}") for host in self.hosts]

    def everywhere(self, command: str) -> dict[str, str]:
        return {host: self.on(command, host=host) for host in self.hosts}

    def put(self, name: str) -> None:
        """Gives the hosts the hardware of a machine."""
        description = build.load(ROOT / f"tests/lab/machines/{name}/machine.yml")
        folder = self.inventory.with_name(f"{self.inventory.name}-{name}")
        build.build({key: value for key, value in description.items() if key in HARDWARE}, folder)
        archive = subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True).stdout
        self.take()
        for host in self.hosts:
            script = f"set -e; mkdir -p {MACHINE}; tar -C {MACHINE} -x; ln -sfn usr/lib {MACHINE}/lib; {MOUNT}"
            subprocess.run(["docker", "exec", "-i", f"forja-{LAB}-{host}", "sh", "-c", script], input=archive, check=True)

    def take(self) -> None:
        mounted = " ".join(f"{MACHINE}/{part}" for part in SOFTWARE)
        self.everywhere(f"for it in {mounted}; do ! mountpoint -q $it || umount $it; done; rm -rf {MACHINE}")

    def start_role(self, roles: list[str] | None = None, *, check: bool = False, **wish: Any) -> "subprocess.Popen[str]":
        """Start the role, or `roles`, of which it is the first, with variables of the role by their short names."""
        wanted = {key if key.startswith(("forja_", "mig_")) else f"nvidia_driver_{key}": value for key, value in wish.items()}
        group = {"nvidia_driver": {"hosts": dict.fromkeys(self.hosts, {}), "vars": wanted}}
        (self.inventory / "wish.yml").write_text(json.dumps(group))
        self.bare = self.bare and check
        return self.role(roles or "nvidia_driver", check=check, **self.facts, **wanted)

    def run(self, *, check: bool = False, **wish: Any) -> dict[str, int]:
        """Runs the role; returns how many tasks changed something on each host."""
        output = self.passes(self.start_role(check=check, **wish))
        self.bare = self.bare or not check and wish.get("state") == "absent"
        return {name: int(changed) for name, changed in re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", output, re.M)}

    def refuses(self, **wish: Any) -> str:
        """The output of a run that must fail and leave everything as it was."""
        before, bare = self.everywhere(STATE), self.bare
        output = self.fails(self.start_role(**wish))
        assert self.everywhere(STATE) == before, output
        self.bare = bare
        return output

    def witness(self) -> None:
        """The host tests of the role, against what the last run was asked for."""
        done = subprocess.run(["pytest", "tests/hosts/test_nvidia_driver.py", "--hosts=ansible://nvidia_driver",
                               f"--ansible-inventory={self.inventory}"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout


# Hosts from which some test has taken the driver that the workstation has.
BARE: set[str] = set()


@contextmanager
def machine(hosts: Iterable[str], name: str, inventory: Path) -> Iterator[Drivers]:
    """The hosts with this hardware and no driver, before and after."""
    drivers = Drivers(hosts, inventory)
    drivers.put(name)
    try:
        if not set(hosts) <= BARE:
            drivers.run(state="absent")
        drivers.bare = True
        BARE.difference_update(hosts)
        yield drivers
    finally:
        if not drivers.bare:
            drivers.run(state="absent")
        drivers.take()
        for host, command in reversed(drivers.undo):
            drivers.on(command, host=host)
    BARE.update(hosts)
