# SPDX-License-Identifier: Apache-2.0
"""The module docker_data: what is deleted of a removed engine, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.docker.engine import Unit
from plugins.module_utils.forja.host import purge
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.modules import docker_data

MOUNTINFO = r"""
36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/root rw
40 36 98:1 / /data/docker rw - ext4 /dev/sdb rw
41 40 0:50 / /data/docker/overlay2/abc/merged rw - overlay overlay rw
42 40 0:51 / /data/docker/volumes/n\040fs/_data rw - nfs4 server:/export rw
"""


class ExitError(Exception):
    pass


Play = Callable[..., dict[str, Any]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    """Run the module on the two folders of tmp_path."""
    result: dict[str, Any] = {}

    def leave(_module: Any, **values: Any) -> None:
        result.clear()
        result.update(values)
        raise ExitError

    module = "plugins.modules.docker_data.AnsibleModule"
    monkeypatch.setattr(f"{module}.exit_json", leave)
    monkeypatch.setattr(f"{module}.fail_json", lambda self, msg: leave(self, failed=True, msg=msg))

    def run(*, check: bool = False, active: bool = False, containerd: str | None = None) -> dict[str, Any]:
        monkeypatch.setattr(docker_data, "inspect", lambda _run: Unit(active, {}, ""))
        monkeypatch.setattr("shutil.which", lambda _name: containerd)
        arguments = {"data_root": str(tmp_path / "docker"), "containerd_root": str(tmp_path / "containerd"), "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(ExitError):
            docker_data.main()
        return dict(result)

    for name in ("docker/overlay2/x", "docker/volumes/v", "docker/photos", "docker/lost+found", "containerd/io.containerd.content.v1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "docker/engine-id").write_text("x")
    return run


def test_only_what_the_engine_wrote_is_deleted(play: Play, tmp_path: Path) -> None:
    predicted = play(check=True)
    assert (tmp_path / "docker/overlay2").exists()
    result = play()
    assert predicted["deleted"] == result["deleted"] != []
    assert sorted(path.name for path in (tmp_path / "docker").iterdir()) == ["lost+found", "photos"]
    assert list(result["kept"]) == [str(tmp_path / "docker/lost+found"), str(tmp_path / "docker/photos")]
    assert not list((tmp_path / "containerd").iterdir())
    assert not play()["changed"]


def test_containerds_folder_stays_where_it_is_installed(play: Play, tmp_path: Path) -> None:
    assert "containerd is installed" in play(containerd="/usr/bin/containerd")["kept"].values()
    assert list((tmp_path / "containerd").iterdir())


def test_a_running_engine_keeps_its_data(play: Play, tmp_path: Path) -> None:
    assert "docker.service runs" in play(active=True)["msg"]
    assert (tmp_path / "docker/volumes/v").exists()


def test_mounted_file_systems_are_kept_and_the_engines_own_go() -> None:
    todo = purge.plan("/data/docker", ["overlay2", "volumes", "image"], docker_data.ENGINE, purge.read_mounts(MOUNTINFO))
    assert todo.delete == ["/data/docker/image", "/data/docker/overlay2"]
    assert todo.keep == {"/data/docker/volumes": "/data/docker/volumes/n fs/_data is a mounted file system"}


@pytest.mark.parametrize("folder", ["/", "relative", "/usr/.."])
def test_a_folder_that_cannot_be_meant_is_refused(folder: str) -> None:
    with pytest.raises(ForjaError, match="cannot be emptied"):
        purge.gather(folder, ".*")


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "volumes").symlink_to(tmp_path / "elsewhere")
    purge.apply([str(tmp_path / "volumes")])
    assert (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "volumes").is_symlink()
