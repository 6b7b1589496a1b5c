# SPDX-License-Identifier: Apache-2.0
"""The module ollama_store: when the folder of the models is usable, what makes it so, what is refused, and what a purge leaves."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from plugins.module_utils.forja.host.access import Access, Account, Mount
from plugins.module_utils.forja.host.converge import converge
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.ollama import store as ollama_store
from plugins.module_utils.forja.ollama.store import Store, apply, apply_purge, deletable, gather, plan, plan_purge, usable

USER = Account("ollama", True, 997, 995, "ollama", "/usr/share/ollama", ["render"])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
DATA, EXT4 = "/data/models", Mount("/data", "ext4", ["rw"])


def found(*, exists: bool = True, writable: bool = True, blocked: str = "", kind: str = "folder", mount: Mount = EXT4,
          foreign: list[str] | None = None, unusable: list[str] | None = None, home_unusable: list[str] | None = None) -> Store:
    access = Access(DATA, exists, kind if exists else "", "/data", blocked, writable)
    return Store(access, mount, foreign or [], [f"{DATA}/blobs"] if unusable else [], unusable or [], "/usr/share/ollama",
                 home_unusable or [], [])


@pytest.mark.parametrize(("store", "actions"), [
    (found(), []),
    (found(exists=False), ["create"]),
    (found(writable=False), ["give"]),
    (found(foreign=["photos"]), []),  # the user may write there: left as it is
    (found(unusable=["/data/models/blobs/sha256-1"]), ["repair"]),
    (found(writable=False, blocked=DATA), ["give"]),  # the folder itself is closed: after the user came back with another uid
    (found(home_unusable=["/usr/share/ollama/.ollama"], blocked="/usr/share/ollama"), ["repair"]),
    (found(mount=Mount("/mnt", "vfat", ["rw"]), unusable=["x"]), []),
])
def test_plan(store: Store, actions: list[str]) -> None:
    assert [step.action for step in plan(store, USER)] == actions


@pytest.mark.parametrize(("store", "named"), [
    (found(blocked="/", writable=False), r"/ \(mode 0[0-7]+, owner 0:0\) may not be searched.*setfacl --modify u:ollama:x '/'"),
    (found(kind="other"), "is not a folder"),
    (found(writable=False, foreign=["photos", "a", "b", "c"]),
     r"holds files that are not Ollama's \(photos, a, b, \.\.\.\).*/data/models/ollama"),
    (found(mount=Mount("/data", "nfs4", ["ro", "vers=4.2"])), "on /data, which is mounted read-only"),
    (found(exists=False, writable=False, mount=Mount("/mnt/usb", "vfat", ["rw"])), r"/mnt/usb \(vfat\).*uid=ollama,gid=ollama"),
])
def test_what_cannot_work_is_refused_with_what_stands_in_the_way(store: Store, named: str) -> None:
    with pytest.raises(ForjaError, match=named):
        plan(store, USER)


def account_of_this_process(home: str = "") -> Account:
    return Account("me", True, os.getuid(), os.getgid(), "me", home, [])


@pytest.fixture
def as_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.initgroups", lambda *_: None)


@pytest.mark.usefixtures("as_ourselves")
def test_folder_is_created_and_tried(tmp_path: Path) -> None:
    user = account_of_this_process()
    store = gather(str(tmp_path / "a/b"), str(tmp_path / "home"), user)
    apply(store, user, plan(store, user))
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o750
    assert plan(gather(str(tmp_path / "a/b"), str(tmp_path / "home"), user), user) == []


@as_root
def test_folders_in_the_home_belong_to_the_user(public: Path) -> None:
    """A fresh host: the user has a home and nothing in it."""
    user = Account("daemon", True, pwd.getpwnam("daemon").pw_uid, pwd.getpwnam("daemon").pw_gid, "daemon", str(public / "home"), [])
    (public / "home").mkdir()
    os.chown(public / "home", user.uid, user.gid)
    path, home = str(public / "home/.ollama/models"), str(public / "home")
    outcome = converge(lambda: gather(path, home, user), lambda store: plan(store, user), lambda store, steps: apply(store, user, steps),
                       False)
    assert [step.action for step in outcome.steps] == ["create"]
    assert (public / "home/.ollama").owner() == "daemon"


@pytest.mark.usefixtures("as_ourselves")
def test_folder_that_refuses_a_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_store, "try_writing", lambda *_: "Read-only file system")
    user = account_of_this_process()
    store = gather(str(tmp_path), str(tmp_path / "home"), user)
    with pytest.raises(ForjaError, match=f"cannot write to {tmp_path} .*Read-only file system"):
        apply(store, user, plan(store, user))


@pytest.mark.parametrize(("mode", "folder", "result"), [
    (0o644, False, True), (0o600, False, False), (0o755, True, False), (0o777, True, True),
])
def test_files_of_others_by_their_mode(tmp_path: Path, mode: int, folder: bool, result: bool) -> None:
    path = tmp_path / "x"
    if folder:
        path.mkdir()
    else:
        path.write_text("")
    path.chmod(mode)
    assert usable(str(path), USER) is result


# Purge

def fill(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def purge(path: Path, home: Path) -> None:
    user = account_of_this_process(str(home))
    steps = plan_purge(gather(str(path), str(home), user))
    assert steps
    apply_purge(steps)
    assert plan_purge(gather(str(path), str(home), user)) == []


@pytest.mark.usefixtures("as_ourselves")
def test_purge_leaves_the_files_of_others(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", "photos/cat.jpg", "blobs/sha256-1", "manifests/registry.ollama.ai/library/x/latest")
    home = fill(tmp_path / "home", ".ollama/id_ed25519", ".bashrc")
    purge(data, home)
    assert [path.name for path in data.iterdir()] == ["photos"]
    assert not home.exists()


@pytest.mark.usefixtures("as_ourselves")
def test_purge_of_the_usual_place(tmp_path: Path) -> None:
    home = fill(tmp_path / "home", ".ollama/models/blobs/sha256-1", ".ollama/id_ed25519")
    purge(home / ".ollama/models", home)
    assert not home.exists()


@pytest.mark.usefixtures("as_ourselves")
def test_purge_follows_a_link_to_the_models(tmp_path: Path) -> None:
    data = fill(tmp_path / "disk", "blobs/sha256-1")
    home = fill(tmp_path / "home", ".ollama/id_ed25519")
    (home / ".ollama/models").symlink_to(data)
    purge(home / ".ollama/models", home)
    assert not data.exists()
    assert not home.exists()


@pytest.mark.usefixtures("as_ourselves")
@pytest.mark.parametrize("mount", ["home/.ollama/models", "home", "disk"])
def test_purge_empties_a_mount_point_and_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str) -> None:
    point = tmp_path / mount
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(point))
    monkeypatch.setattr(ollama_store, "mount_of", lambda path, _text: Mount(str(point) if path.startswith(str(point)) else "/", "ext4", []))
    models = tmp_path / ("disk" if mount == "disk" else "home/.ollama/models")
    fill(models, "blobs/sha256-1", "lost+found/x")
    fill(tmp_path / "home", ".ollama/id_ed25519", ".ollama/logs/a")
    purge(models, tmp_path / "home")
    assert point.is_dir()
    assert not (models / "blobs").exists()
    assert not list((tmp_path / "home").rglob("id_ed25519"))


def test_nothing_to_delete(tmp_path: Path) -> None:
    assert deletable(str(tmp_path / "none")) == []
