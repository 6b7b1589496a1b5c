# SPDX-License-Identifier: Apache-2.0
"""Every recorded machine gives the facts written beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.machines import build, match

KEYS = {"platform", "gpus", "nvswitch", "infiniband", "driver", "secure_boot", "nouveau", "nvml", "holders"}
KEYS |= {"recommended", "problems", "summary"}


@pytest.mark.parametrize("name", match.NAMES)
def test_machine(name: str, tmp_path: Path) -> None:
    facts = match.survey(name, tmp_path / "root")
    wanted = match.expected(name)
    assert set(wanted) == KEYS, "expected.yml must speak of every part"
    assert set(facts) == KEYS
    assert not list(match.differences(wanted, facts)), "\n".join(match.differences(wanted, facts))


@pytest.mark.parametrize("name", match.NAMES)
def test_every_recommendation_has_a_reason(name: str, tmp_path: Path) -> None:
    recommended = match.survey(name, tmp_path / "root")["recommended"]
    assert set(recommended["reasons"]) == set(recommended) - {"reasons"}
    for sentence in recommended["reasons"].values():
        assert sentence.endswith(".")
        assert ".." not in sentence


def test_there_are_enough_machines() -> None:
    assert len(match.NAMES) >= 16


def test_tree_is_built_anew_in_its_place_when_the_machine_changes(tmp_path: Path) -> None:
    description, root = tmp_path / "machine.yml", tmp_path / "root"
    description.write_text("about: one\nkernel: 6.1-a\nmodules: [nouveau]\nlinks: {/etc/x: /sys}\n")
    assert build.refresh(description, root)
    folder = root.stat().st_ino
    assert not build.refresh(description, root)
    description.write_text("about: two\nkernel: 6.12-b\n")
    assert build.refresh(description, root)
    assert [str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()] == ["proc/sys/kernel/osrelease"]
    assert root.stat().st_ino == folder, "a mount of the folder would be lost"


def test_nothing_is_built_over_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "precious").write_text("x")
    with pytest.raises(SystemExit, match="another folder"):
        build.refresh(match.MACHINES / "no-gpu" / "machine.yml", tmp_path / "root")
    assert (tmp_path / "root" / "precious").exists()


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="libary"):
        build.build({"about": "x", "libary": {}}, tmp_path)
