# SPDX-License-Identifier: Apache-2.0
"""Every recorded machine gives the facts written beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.machines import match

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
