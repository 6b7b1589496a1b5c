# SPDX-License-Identifier: Apache-2.0
"""Lock and journal: they write only into a folder of root's own, and readers wait for a change that is under way."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from plugins.module_utils.forja.mig.journal import Journal, JournalError
from tests.unit.mig.host import A100, SEVEN, Boot


@pytest.mark.parametrize("name", ["lock", "journal.json.new", "journal.json"])
def test_links_are_never_followed(boot: Boot, tmp_path: Path, name: str) -> None:
    """Such as one that a user made where the state folder had been open to others."""
    host = boot(A100)
    target = tmp_path / "precious"
    target.write_text("precious")
    Path(host.folder).mkdir(mode=0o755)
    Path(host.folder, name).symlink_to(target)
    if name == "journal.json.new":  # a leftover, which is replaced
        assert host.apply(SEVEN).changed
    else:
        with pytest.raises(JournalError, match="Too many levels of symbolic links"):
            host.apply(SEVEN)
        assert host.changes() == 0
    assert target.read_text() == "precious"


def test_a_folder_that_others_can_write_is_refused(boot: Boot) -> None:
    host = boot(A100)
    Path(host.folder).mkdir()
    Path(host.folder).chmod(0o777)
    with pytest.raises(JournalError, match="other users can write in it"):
        host.apply(SEVEN)
    with pytest.raises(JournalError, match="other users can write in it"):
        host.plan(SEVEN)
    assert host.changes() == 0


def test_the_environment_does_not_choose_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.module_utils.forja.mig.journal.STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FORJA_MIG_STATE", str(tmp_path / "theirs"))
    with Journal():
        assert (tmp_path / "state/lock").exists()
    assert not (tmp_path / "theirs").exists()


def test_reading_waits_for_a_change_and_holds_off_the_next(tmp_path: Path) -> None:
    order: list[str] = []
    folder = str(tmp_path / "state")

    def read() -> None:
        with Journal(folder, patience=20).reading():
            order.append("read")
            time.sleep(0.3)
            order.append("read to the end")

    with Journal(folder):
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        order.append("changed")
    while "read" not in order:
        time.sleep(0.01)
    with Journal(folder, patience=20):
        order.append("changed again")
    reader.join()
    assert order == ["changed", "read", "read to the end", "changed again"]


def test_two_read_at_the_same_time(tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    with Journal(folder):
        pass
    with Journal(folder, patience=0).reading() as first, Journal(folder, patience=0).reading() as second:
        assert first.entries() == second.entries() == {}


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    with Journal(str(tmp_path / "state")).reading() as journal:
        assert journal.entries() == {}
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", [
    "[" * 100_000,
    '{"version": 3, "boot_id": ' + "[" * 100_000,
    json.dumps({"version": 3, "padding": "x" * (1 << 20)}),
    json.dumps({"version": 3, "boot_id": "HERE", "gpus": {"GPU-1": {"found": {
        "enabled": True, "pending": True, "instances": [[1, 2, [0, 1], [[0, 0, {}, [0, 1]]]]]}, "targets": []}}}),
    "\udcff",
])
def test_a_journal_that_nobody_wrote_is_a_sentence(boot: Boot, text: str) -> None:
    from plugins.module_utils.forja.mig.journal import boot_id

    host = boot(A100)
    Path(host.folder).mkdir(mode=0o755)
    Path(host.folder, "journal.json").write_bytes(text.replace("HERE", boot_id()).encode("utf-8", "surrogateescape"))
    with pytest.raises(JournalError, match="is not valid"):
        host.apply(SEVEN)
    assert host.changes() == 0
