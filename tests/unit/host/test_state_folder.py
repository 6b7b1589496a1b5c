# SPDX-License-Identifier: Apache-2.0
"""Folders of root's state that no other user can redirect."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.state_folder import open_state_folder


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_missing_parents_are_closed_to_others_whatever_the_umask_is(tmp_path: Path) -> None:
    os.close(open_state_folder(str(tmp_path / "var/forja/mig")))
    made = [tmp_path / "var", tmp_path / "var/forja", tmp_path / "var/forja/mig"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o755] * 3


@pytest.mark.parametrize(("place", "mode"), [("mig", 0o777), ("mig", 0o1777), ("mig", 0o775), (".", 0o777)])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, place: str, mode: int) -> None:
    (tmp_path / "forja/mig").mkdir(parents=True)
    (tmp_path / "forja" / place).chmod(mode)
    with pytest.raises(ForjaError, match=f"has mode {mode:04o}: other users can write in it. Run chmod go-w"):
        open_state_folder(str(tmp_path / "forja/mig"))


def test_a_sticky_folder_above_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "forja").mkdir()
    (tmp_path / "forja").chmod(0o1777)
    folder = open_state_folder(str(tmp_path / "forja/mig"))
    assert os.readlink(f"/proc/self/fd/{folder}") == str(tmp_path / "forja/mig")
    os.close(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("place", ["mig", "."])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "forja/mig").mkdir(parents=True)
    os.chown(tmp_path / "forja" / place, 65534, 65534)
    with pytest.raises(ForjaError, match="belongs to user 65534.*it must belong to root"):
        open_state_folder(str(tmp_path / "forja/mig"))


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mig").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        open_state_folder(str(tmp_path / "mig"))


def test_a_missing_folder_is_not_made_for_reading(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_state_folder(str(tmp_path / "forja/mig"), create=False)
    assert not (tmp_path / "forja").exists()
