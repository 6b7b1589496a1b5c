# SPDX-License-Identifier: Apache-2.0
"""The module open_webui_upgrade: what is kept before a new container starts, and the way back."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.open_webui import database, upgrade
from plugins.module_utils.forja.open_webui.container import Container
from plugins.module_utils.forja.open_webui.upgrade import Place, State, plan

PLACE = Place("web", "/data", "/secrets.env", "/backups")
RUNS, STOPPED, NONE = Container(True, True, "running"), Container(True, False, "exited"), Container()


@pytest.mark.parametrize(("state", "actions"), [
    (State(RUNS, NONE, True, None), ["stop", "backup", "remember", "rename"]),
    (State(STOPPED, NONE, True, None), ["backup", "remember", "rename"]),
    (State(NONE, NONE, True, None), ["backup", "remember"]),  # removed by hand, or a volume of an older version
    (State(NONE, NONE, False, None), []),
    (State(RUNS, NONE, False, None), ["stop", "remember", "rename"]),
    # Interrupted: the backup from before is never replaced by one of a database that the new version may have touched.
    (State(NONE, STOPPED, True, {"backup": "/b"}), []),
    (State(RUNS, STOPPED, True, {"backup": "/b"}), ["remove"]),
])
def test_upgrade_begins_with_a_backup(state: State, actions: list[str]) -> None:
    assert [step.action for step in plan(state, PLACE, "begun")] == actions


def test_other_settings_need_no_backup() -> None:
    steps = plan(State(RUNS, NONE, True, None), PLACE, "begun", with_database=False)
    assert [step.action for step in steps] == ["stop", "remember", "rename"]


@pytest.mark.parametrize(("state", "actions"), [
    (State(RUNS, STOPPED, True, {"backup": "/b"}), ["remove", "restore", "rename_back", "forget"]),
    (State(RUNS, STOPPED, True, {"backup": ""}), ["remove", "rename_back", "forget"]),
    (State(NONE, STOPPED, True, {"backup": "/b"}), ["restore", "rename_back", "forget"]),
    (State(RUNS, NONE, True, {"backup": "/b"}), ["remove", "restore", "forget"]),
    (State(RUNS, NONE, True, None), []),  # a first installation has nothing to go back to
])
def test_rollback_puts_container_and_database_back(state: State, actions: list[str]) -> None:
    assert [step.action for step in plan(state, PLACE, "rolled_back")] == actions


def test_end_of_an_upgrade_removes_the_previous_container() -> None:
    assert [step.action for step in plan(State(RUNS, STOPPED, True, {"backup": "/b"}), PLACE, "finished")] == ["remove_previous", "forget"]
    assert plan(State(RUNS, NONE, True, None), PLACE, "finished") == []


def make_database(path: Path, users: int, head: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE user (id TEXT, role TEXT)")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (head,))
        for number in range(users):
            connection.execute("INSERT INTO user VALUES (?, ?)", (str(number), "admin" if number == 0 else "user"))
    connection.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data/uploads").mkdir(parents=True)
    (tmp_path / "data/uploads/file.txt").write_text("an upload")
    (tmp_path / "secrets.env").write_text("WEBUI_SECRET_KEY=abc\n")
    return Place("web", str(tmp_path / "data"), str(tmp_path / "secrets.env"), str(tmp_path / "backups"))


def test_backup_holds_database_uploads_and_key_and_only_root_reads_it(place: Place) -> None:
    make_database(Path(place.database), 2, "abc")
    path = upgrade.backup(place, {"image": "i"}, files=True)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        assert {"about.json", "webui.db", "secrets.env", "files/uploads/file.txt"} <= set(tar.getnames())


def test_restore_brings_all_of_it_back(place: Place) -> None:
    make_database(Path(place.database), 2, "abc")
    path = upgrade.backup(place, {}, files=True)
    with sqlite3.connect(place.database) as connection:
        connection.execute("DELETE FROM user")
    connection.close()
    Path(place.folder, "uploads/file.txt").unlink()
    Path(place.secrets).unlink()
    upgrade.restore(place, path, files=True)
    assert database.read(place.database)[:4] == (True, 2, 1, "abc")
    assert Path(place.folder, "uploads/file.txt").read_text() == "an upload"
    assert Path(place.secrets).read_text() == "WEBUI_SECRET_KEY=abc\n"


def test_rollback_leaves_no_log_of_the_failed_migration_beside_the_database(place: Place) -> None:
    make_database(Path(place.database), 1, "abc")
    path = upgrade.backup(place, {}, files=False)
    Path(place.database + "-wal").write_bytes(b"of another database")
    upgrade.restore(place, path, files=False)
    assert not Path(place.database + "-wal").exists()
    assert database.read(place.database).head == "abc"


def test_missing_backup_is_refused_with_those_that_there_are(place: Place) -> None:
    make_database(Path(place.database), 1, "abc")
    path = upgrade.backup(place, {}, files=False)
    with pytest.raises(ForjaError, match=path):
        upgrade.restore(place, "/nowhere.tar", files=True)


def test_full_disk_is_found_before_the_backup(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    make_database(Path(place.database), 1, "abc")

    class Usage:
        free = 1 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(ForjaError, match="MiB are free"):
        upgrade.backup(place, {}, files=False)
    assert upgrade.listing(place.backups) == []


def test_old_backups_go(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"open-webui-2026010{number}T000000Z.tar").touch()
    (tmp_path / "notes.txt").touch()
    upgrade.prune(str(tmp_path), 2)
    names: list[Any] = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["notes.txt", "open-webui-20260102T000000Z.tar", "open-webui-20260103T000000Z.tar"]
