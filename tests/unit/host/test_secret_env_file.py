# SPDX-License-Identifier: Apache-2.0
"""The module secret_env_file: made once, never empty, for root alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils.forja.host import secrets
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.secrets import State, gather, parse, plan


@pytest.mark.parametrize(("held", "wanted", "steps"), [
    ({}, {"KEY": ""}, ["generate KEY"]),
    ({"KEY": "a"}, {"KEY": ""}, []),
    ({"KEY": ""}, {"KEY": ""}, ["generate KEY"]),
    ({"KEY": "a"}, {"KEY": "b"}, ["set KEY"]),
    ({"KEY": "a", "OLD": "b"}, {"KEY": ""}, ["remove OLD"]),
])
def test_what_is_there_is_kept_unless_it_is_empty_or_given(held: dict[str, str], wanted: dict[str, str], steps: list[str]) -> None:
    assert plan(State(held, 0o600, 0), wanted) == steps


def test_file_that_others_can_read_is_closed() -> None:
    assert plan(State({"KEY": "a"}, 0o644, 0), {"KEY": ""}) == ["make the file readable by root only"]
    assert plan(State({"KEY": "a"}, 0o600, 1000), {"KEY": ""}) == ["make the file readable by root only"]


@pytest.mark.parametrize("wanted", [{"A B": "x"}, {"KEY": "two\nlines"}, {"": "x"}])
def test_what_an_env_file_cannot_hold_is_refused(wanted: dict[str, str]) -> None:
    with pytest.raises(ForjaError, match="one line"):
        secrets.check(wanted)


def test_secret_survives_a_second_run_and_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.chown", lambda *_: None)
    path = str(tmp_path / "inner" / "secrets.env")
    wanted = {"KEY": "", "GIVEN": "a=b c"}
    secrets.apply(path, gather(path), wanted)
    first = parse(Path(path).read_text())
    assert len(first["KEY"]) >= 32
    assert first["GIVEN"] == "a=b c"
    assert Path(path).stat().st_mode & 0o777 == 0o600
    secrets.apply(path, gather(path), {**wanted, "MORE": ""})
    assert parse(Path(path).read_text())["KEY"] == first["KEY"]
