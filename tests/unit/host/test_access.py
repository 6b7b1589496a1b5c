# SPDX-License-Identifier: Apache-2.0
"""What another user may do with a path: folders on the way, writing, and the mount that holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plugins.module_utils.forja.host.access import NOBODY, Account, account, look, mount_of, try_writing

STRANGER = Account("nobody-here", False, NOBODY, NOBODY, "", "", [])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@as_root
def test_closed_folder_on_the_way_is_found(public: Path) -> None:
    home = public / "lasse"
    (home / "ollama").mkdir(parents=True)
    home.chmod(0o700)
    found = look(str(home / "ollama"), STRANGER)
    assert found.blocked == str(home)
    assert (found.exists, found.kind, found.writable) == (True, "folder", False)
    home.chmod(0o711)
    assert look(str(home / "ollama"), STRANGER).blocked == ""


@as_root
def test_path_that_does_not_exist_yet(public: Path) -> None:
    found = look(str(public / "a/b"), STRANGER)
    assert (found.exists, found.deepest, found.blocked, found.writable) == (False, str(public), "", False)
    public.chmod(0o777)
    assert look(str(public / "a/b"), STRANGER).writable


@as_root
def test_writing_is_tried_as_the_user(public: Path) -> None:
    assert try_writing(str(public), STRANGER) == "Permission denied"
    public.chmod(0o777)
    assert try_writing(str(public), STRANGER) == ""
    assert list(public.iterdir()) == []


def test_links_are_resolved(public: Path) -> None:
    (public / "store").mkdir()
    (public / "link").symlink_to("store")
    assert look(str(public / "link"), STRANGER).path == str(public / "store")


MOUNTS = """22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 254:16 / /mnt/AI\\040models rw,relatime - vfat /dev/vdb1 rw,uid=1000
31 22 0:44 / /data ro,relatime - nfs4 server:/data rw,vers=4.2
32 31 0:45 / /data/ollama rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(("path", "point", "kind"), [
    ("/usr/share", "/", "ext4"),
    ("/mnt/AI models/ollama", "/mnt/AI models", "vfat"),
    ("/data", "/data", "nfs4"),
    ("/data/ollama/blobs", "/data/ollama", "tmpfs"),
    ("/database", "/", "ext4"),
])
def test_mount_that_holds_a_path(path: str, point: str, kind: str) -> None:
    found = mount_of(path, MOUNTS)
    assert (found.point, found.kind) == (point, kind)
    assert ("ro" in found.options) == (kind == "nfs4")


def test_account_of_root() -> None:
    assert account("root")[:6] == ("root", True, 0, 0, "root", "/root")
    assert account("nobody-here") == STRANGER
