#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn a machine's description into the files that software finds on it.

    build.py <machine.yml> <folder>      writes the tree below <folder>, to be read with `gpu_facts: root=<folder>`

Run again it does nothing, or, when the description or this file has changed, builds anew in the same folder (which may
be mounted somewhere). <folder>.sha256 remembers what it was built from.

A description has these keys, all optional but `about`:

about       what matters about the machine
kernel      the running kernel's release
pci         by address: id (vendor:device), class (0302), subsystem (vendor:device), driver, numa, iommu_group, minor (of
            /dev/nvidiaN), drm (node names), of (the address whose virtual function this is)
dmi         files of /sys/class/dmi/id
secure_boot true, false, or "unreadable": EFI without the variable; missing: no EFI
driver      what is loaded: version, flavour
kernels     by release: headers (true), module (where below /lib/modules/<release>), version and flavour of the module,
            dkms (built or installed) with the version
dkms_added  versions that DKMS knows and built for no kernel
library     by path: the version in the name of libnvidia-ml.so
packages    installed deb packages: name: version, or name: [version, maintainer]
modules     names under /sys/module
files       by path: text (`\\0` stands for a NUL byte)
links       by path: target
folders     a list of paths
processes   by pid: comm, cmdline (a list), cgroup, open (a list of nodes)
imds        what Azure's metadata service answers (not in the tree)
nvml        what NVML answers (not in the tree): see tests/lab/machines/README.md
simulator   the machine of tests/lab/nvml/machines that a lab host with this machine plays
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import yaml

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
KEYS = {"about", "kernel", "pci", "dmi", "secure_boot", "driver", "kernels", "dkms_added", "library", "packages", "modules"}
KEYS |= {"files", "links", "folders", "processes", "imds", "nvml", "simulator"}
LICENSES = {"open": "Dual MIT/GPL", "proprietary": "NVIDIA"}
BANNERS = {
    "open": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22-I3-B17-04-6)\n",
    "proprietary": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Wed Jul  2 17:02:12 UTC 2025\n",
}


def load(path: Path) -> dict[str, Any]:
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(description, dict), path
    return description


class Tree:
    """Files below a folder, written with paths as the machine itself has them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | bytes) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.replace("\\0", "\0").encode()
        target.write_bytes(data)

    def link(self, path: str, target: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def folder(self, path: str) -> None:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)


def build(machine: dict[str, Any], root: Path) -> None:
    """Write the whole tree of a machine."""
    assert set(machine) <= KEYS, f"unknown keys: {sorted(set(machine) - KEYS)}"
    tree = Tree(root)
    tree.folder("/")
    if "kernel" in machine:
        tree.write("/proc/sys/kernel/osrelease", machine["kernel"] + "\n")
    for address, device in machine.get("pci", {}).items():
        _pci(tree, address, device)
    for name, value in machine.get("dmi", {}).items():
        tree.write(f"/sys/class/dmi/id/{name}", value + "\n")
    _boot(tree, machine)
    _driver(tree, machine)
    for name in machine.get("modules", []):
        tree.folder(f"/sys/module/{name}")
    for path, text in machine.get("files", {}).items():
        tree.write(path, text)
    for path, target in machine.get("links", {}).items():
        tree.link(path, target)
    for path in machine.get("folders", []):
        tree.folder(path)
    if "simulator" in machine:
        tree.write("/nvml-simulator", machine["simulator"] + "\n")
    for pid, process in machine.get("processes", {}).items():
        _process(tree, pid, process)


def _pci(tree: Tree, address: str, device: dict[str, Any]) -> None:
    # As in the kernel: the device's files in /sys/devices, a link under the bus. One flat folder of devices is enough.
    real = f"/sys/devices/pci/{address}"
    tree.link(f"/sys/bus/pci/devices/{address}", f"../../../devices/pci/{address}")
    vendor, number = device["id"].split(":")
    tree.write(f"{real}/class", f"0x{device['class']}00\n")
    tree.write(f"{real}/vendor", f"0x{vendor}\n")
    tree.write(f"{real}/device", f"0x{number}\n")
    if "subsystem" in device:
        board_vendor, board = device["subsystem"].split(":")
        tree.write(f"{real}/subsystem_vendor", f"0x{board_vendor}\n")
        tree.write(f"{real}/subsystem_device", f"0x{board}\n")
    tree.write(f"{real}/numa_node", f"{device.get('numa', -1)}\n")
    if "driver" in device:
        tree.folder(f"/sys/bus/pci/drivers/{device['driver']}")
        tree.link(f"{real}/driver", f"../../../bus/pci/drivers/{device['driver']}")
    if "iommu_group" in device:
        tree.link(f"{real}/iommu_group", f"../../../kernel/iommu_groups/{device['iommu_group']}")
    if "of" in device:
        tree.link(f"{real}/physfn", f"../{device['of']}")
    for node in device.get("drm", []):
        tree.folder(f"{real}/drm/{node}")
    if "minor" in device:
        text = f"Model: \\t\\t {device['id']}\nBus Location: \t {address}\nDevice Minor: \t {device['minor']}\n"
        tree.write(f"/proc/driver/nvidia/gpus/{address}/information", text)


def _boot(tree: Tree, machine: dict[str, Any]) -> None:
    state = machine.get("secure_boot")
    if state is None:
        return
    tree.folder("/sys/firmware/efi/efivars")
    if state != "unreadable":
        # Four bytes of attributes (boot service and runtime access), then the value.
        tree.write(SECURE_BOOT, bytes([6, 0, 0, 0, int(state)]))


def _driver(tree: Tree, machine: dict[str, Any]) -> None:
    loaded = machine.get("driver")
    if loaded:
        tree.write("/sys/module/nvidia/version", loaded["version"] + "\n")
        tree.write("/proc/driver/nvidia/version", BANNERS[loaded["flavour"]].format(loaded["version"]))
    for path, version in machine.get("library", {}).items():
        tree.write(f"{path}/libnvidia-ml.so.{version}", "")
        tree.link(f"{path}/libnvidia-ml.so.1", f"libnvidia-ml.so.{version}")
    for release, kernel in machine.get("kernels", {}).items():
        _kernel(tree, release, kernel)
    for version in machine.get("dkms_added", []):
        tree.link(f"/var/lib/dkms/nvidia/{version}/source", f"/usr/src/nvidia-{version}")
    paragraphs = []
    for name, package in machine.get("packages", {}).items():
        version, maintainer = package if isinstance(package, list) else (package, "Somebody <somebody@example.org>")
        paragraphs.append(
            f"Package: {name}\nStatus: install ok installed\nMaintainer: {maintainer}\nVersion: {version}\nDescription: a package\n more\n"
        )
    if paragraphs:
        tree.write("/var/lib/dpkg/status", "\n".join(paragraphs))


def _kernel(tree: Tree, release: str, kernel: dict[str, Any]) -> None:
    base = f"/lib/modules/{release}"
    tree.folder(f"{base}/kernel")
    if kernel.get("headers"):
        tree.write(f"/usr/src/linux-headers-{release}/Makefile", "")
        tree.link(f"{base}/build", f"/usr/src/linux-headers-{release}")
    dep = "kernel/drivers/pci/switch/switchtec.ko:\n"
    if "module" in kernel:
        dep += f"{kernel['module']}: kernel/drivers/acpi/video.ko\n"
        info = {"version": kernel.get("version", ""), "license": LICENSES.get(kernel.get("flavour", ""), "")}
        tree.write(f"{base}/{kernel['module']}", elf_with_modinfo(info) if kernel["module"].endswith(".ko") else b"\xfd7zXZ\0")
    tree.write(f"{base}/modules.dep", dep)
    if "dkms" in kernel:
        version = kernel["version"]
        tree.folder(f"/var/lib/dkms/nvidia/{version}/{release}/x86_64/module")
        if kernel["dkms"] == "installed":
            tree.link(f"/var/lib/dkms/nvidia/kernel-{release}-x86_64", f"{version}/{release}/x86_64")


def elf_with_modinfo(info: dict[str, str]) -> bytes:
    """The smallest 64-bit ELF file with a .modinfo section, as every kernel module has one."""
    modinfo = b"".join(f"{key}={value}\0".encode() for key, value in info.items())
    names = b"\0.modinfo\0.shstrtab\0"
    at_info, at_names = 64, 64 + len(modinfo)
    at_table = at_names + len(names)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, at_table, 0, 64, 0, 0, 64, 3, 2)

    def section(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)

    return header + modinfo + names + bytes(64) + section(1, at_info, len(modinfo)) + section(10, at_names, len(names))


def _process(tree: Tree, pid: int, process: dict[str, Any]) -> None:
    base = f"/proc/{pid}"
    tree.write(f"{base}/comm", process["comm"] + "\n")
    tree.write(f"{base}/cmdline", "\0".join(process.get("cmdline", [])) + "\0")
    tree.write(f"{base}/cgroup", process.get("cgroup", "0::/") + "\n")
    tree.folder(f"{base}/fd")
    for number, node in enumerate(["/dev/null", *process.get("open", [])]):
        tree.link(f"{base}/fd/{number}", node)


def refresh(description: Path, root: Path) -> bool:
    """Build the tree unless it stands already as described; say whether something was done."""
    stamp = root.with_name(root.name + ".sha256")
    wanted = hashlib.sha256(description.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    if root.exists() and any(root.iterdir()) and not stamp.exists():
        raise SystemExit(f"{root} holds something that was not built here; take another folder.")
    root.mkdir(parents=True, exist_ok=True)
    stamp.write_text("")  # from now on whatever is in the folder is ours
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    build(load(description), root)
    stamp.write_text(wanted)
    return True


if __name__ == "__main__":
    os.umask(0o022)  # as on a machine, anybody may read it
    if refresh(Path(sys.argv[1]), Path(sys.argv[2])):
        print(f"built {sys.argv[2]}")
