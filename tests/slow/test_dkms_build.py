# SPDX-License-Identifier: Apache-2.0
"""Builds Debian's own driver for Debian's own kernel in the lab's hosts, for real: minutes of compiling on each.

Whether Debian's driver fits Debian's kernel changes from month to month, and both ends are right ones: a module for the kernel and nouveau
kept away, or no driver, nouveau as before and the compiler's words. What may not be is anything between.
Needs the lab (`make lab`) or any inventory of lab hosts in FORJA_INVENTORY.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import testinfra

from tests.lab.machines import build

REPO = Path(__file__).resolve().parents[2]
INVENTORY = os.environ.get("FORJA_INVENTORY", str(REPO / "inventories/lab"))
HOSTS = ("ws12", "ws13")


def ansible(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*argv, "--inventory", INVENTORY], cwd=REPO, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the playbook said; the hosts are then as it left them."""
    tree = tmp_path_factory.mktemp("machine") / "tree"
    build.build(build.load(REPO / "tests/lab/machines/h200-vm/machine.yml"), tree)
    archive = tree.with_suffix(".tar")
    subprocess.run(["tar", "-C", str(tree), "-cf", str(archive), "."], check=True)
    folder = "/srv/forja-slow"
    for module, arguments in (("file", f"path={folder} state=directory mode=0755"), ("unarchive", f"src={archive} dest={folder}")):
        done = ansible("ansible", "workstation", "--become", "-m", f"ansible.builtin.{module}", "-a", arguments)
        assert done.returncode == 0, done.stdout
    begin = time.monotonic()
    done = ansible("ansible-playbook", "tests/slow/driver.yml")
    print(f"\nthe driver on {len(HOSTS)} hosts at once: {time.monotonic() - begin:.0f} s")
    return done.stdout


def built(host: Any) -> bool:
    return bool(host.run("ls /lib/modules/*/updates/dkms/nvidia*.ko*").rc == 0)


@pytest.mark.parametrize("name", HOSTS)
def test_the_host_has_one_of_the_two_drivers(run: str, name: str) -> None:
    host = testinfra.get_host(f"ansible://{name}", ansible_inventory=INVENTORY)
    blacklisted = host.run("grep -rqs '^blacklist nouveau' /etc/modprobe.d /usr/lib/modprobe.d").rc == 0
    rows = host.run("dpkg-query --show --showformat='${Package} ${db:Status-Abbrev}\n' 'nvidia-*' 'libnvidia-*'").stdout
    packages = [row.split()[0] for row in rows.splitlines() if row.split()[1][1] not in "nc"]
    assert host.check_output("dpkg --audit") == "", run
    images = host.check_output("ls /boot/initrd.img-*").split()
    aware = ["modprobe.d/forja-nvidia-driver" in host.run("lsinitramfs %s", image).stdout for image in images]
    if built(host):
        assert blacklisted, run
        assert "nvidia-smi" in packages, run
        assert all(aware), run
    else:
        assert not blacklisted, run
        assert packages == [], run
        assert "could not be built" in run, run
        assert not any(aware), run


def test_a_module_was_really_built(run: str) -> None:
    hosts = [testinfra.get_host(f"ansible://{name}", ansible_inventory=INVENTORY) for name in HOSTS]
    modules = [host for host in hosts if built(host)]
    assert modules, run
    for host in modules:
        files = host.check_output("ls /lib/modules/*/updates/dkms/nvidia*.ko*").split()
        main = next(file for file in files if not any(part in file for part in ("drm", "modeset", "uvm", "peermem")))
        assert host.check_output("modinfo -F license %s", main) == "Dual MIT/GPL"
