# SPDX-License-Identifier: Apache-2.0
"""What a unit's files come to together."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.systemd.effective import Setting, environment, last, listed, unit_files
from plugins.module_utils.forja.systemd.paths import Place, place
from plugins.module_utils.forja.systemd.unit_file import quote, words

UNIT = "demo.service"
OWN = "/etc/systemd/system/demo.service"


@pytest.fixture
def system(tmp_path: Path) -> Place:
    (tmp_path / "etc/systemd/system/demo.service.d").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    return place("system", str(tmp_path), 0, 0, "/root")


def write(system: Place, path: str, text: str) -> str:
    file = Path(system.root + path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def test_later_drop_in_wins_over_one_that_is_still_to_be_written(system: Place) -> None:
    later = write(system, f"{OWN}.d/override.conf", '[Service]\nEnvironment="HOST=0.0.0.0" OTHER=1\n')
    ours = system.root + f"{OWN}.d/forja.conf"
    found = environment(unit_files(system, UNIT, {ours: "[Service]\nEnvironment=HOST=127.0.0.1 MODELS=/a%%b\n"}))
    assert found == {"HOST": Setting("0.0.0.0", later), "MODELS": Setting("/a%b", ours), "OTHER": Setting("1", later)}


def test_earlier_drop_in_loses(system: Place) -> None:
    write(system, f"{OWN}.d/a.conf", "[Service]\nEnvironment=HOST=0.0.0.0\n")
    ours = system.root + f"{OWN}.d/forja.conf"
    assert environment(unit_files(system, UNIT, {ours: "[Service]\nEnvironment=HOST=127.0.0.1\n"}))["HOST"].path == ours


def test_unit_that_is_written_replaces_the_one_on_disk(system: Place) -> None:
    write(system, OWN, "[Service]\nUser=vendor\n")
    write(system, "/usr/lib/systemd/system/demo.service", "[Service]\nUser=package\n")
    path = system.root + OWN
    assert last(unit_files(system, UNIT, {path: "[Service]\nUser=ours\n"}), "User") == Setting("ours", path)
    assert last(unit_files(system, UNIT, {}), "User") == Setting("vendor", path)


def test_environment_files_win_and_unset_takes_away(system: Place) -> None:
    values = write(system, "/etc/default/demo", "HOST='1.2.3.4'\n# a comment\nGONE=1\n")
    write(system, OWN, "[Service]\nEnvironmentFile=-/etc/default/de*\nEnvironment=HOST=x GONE=2\nUnsetEnvironment=GONE\n")
    assert environment(unit_files(system, UNIT, {}), system.root) == {"HOST": Setting("1.2.3.4", values)}


def test_empty_assignment_resets(system: Place) -> None:
    write(system, OWN, "[Service]\nReadWritePaths=/a \"/b c\"\nUser=x\nEnvironment=A=1\n")
    path = write(system, f"{OWN}.d/x.conf", "[Service]\nReadWritePaths=\nReadWritePaths=/d\nUser=\nEnvironment=\n")
    files = unit_files(system, UNIT, {})
    assert listed(files, "ReadWritePaths") == [Setting("/d", path)]
    assert last(files, "User") is None
    assert environment(files) == {}


@pytest.mark.parametrize(("word", "quoted"), [
    ("/srv/models", "/srv/models"),
    ("/mnt/AI models/ollama", '"/mnt/AI models/ollama"'),
    ("/a%b", "/a%%b"),
    ('/a"b\\c', '"/a\\"b\\\\c"'),
    ("/it's", '"/it\'s"'),
    ("/é", '"/é"'),
])
def test_path_is_one_word_of_a_unit(word: str, quoted: str) -> None:
    assert quote(word) == quoted
    assert [found.replace("%%", "%") for found in words(quoted)] == [word]


def test_newline_in_a_path_is_refused() -> None:
    with pytest.raises(ForjaError):
        quote("/a\nUser=root")
