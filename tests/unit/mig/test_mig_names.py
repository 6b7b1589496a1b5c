# SPDX-License-Identifier: Apache-2.0
"""Names of MIG profiles: as computed for every profile in the listings, and as read from a file."""

from __future__ import annotations

import pytest

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.mig.layout.names import BadNameError, Name, attributes, ci_name, compute_sizes, gi_name, parse
from tests.unit.mig.cards import MODELS

MIB = 1 << 20


def test_computed_names_are_the_listed_ones() -> None:
    seen = 0
    for model in MODELS:
        for one in model["gi_profiles"]:
            if model["total_memory_mib"] and one["memory_mb"]:
                seen += 1
                marks = attributes(one["nvml_profile"])
                assert gi_name(one["slices"], one["memory_mb"], model["total_memory_mib"] * MIB, marks) == one["name"]
                for inner in one["ci_profiles"]:
                    assert ci_name(one["name"], inner["slices"]) == inner["name"]
                    assert inner["slices"] in compute_sizes(one["slices"])
    assert seen > 60


@pytest.mark.parametrize(("slices", "memory_mib", "total", "name"), [
    (3, 71168, 143771 * MIB, "3g.71gb"),  # 70.5, rounded away from zero: Python's round() would say 70
    (1, 4864, 40537 * MIB, "1g.5gb"),  # an older driver's total
    (1, 5120, 40960 * MIB, "1g.5gb"),  # just an eighth
    (1, 5121, 40960 * MIB, "1g.10gb"),  # a little more than an eighth takes two
    (7, 40960, 40960 * MIB, "7g.40gb"),
])
def test_gi_name(slices: int, memory_mib: int, total: int, name: str) -> None:
    assert gi_name(slices, memory_mib, total) == name


def test_a_gpu_without_memory_has_no_names() -> None:
    with pytest.raises(ForjaError, match="0 bytes"):
        gi_name(1, 1, 0)


@pytest.mark.parametrize(("text", "expected", "canonical"), [
    ("1g.5gb", Name(1, 1, 5, (), ()), "1g.5gb"),
    ("1c.3g.20gb", Name(1, 3, 20, (), ()), "1c.3g.20gb"),
    ("7c.7g.40gb", Name(7, 7, 40, (), ()), "7g.40gb"),
    ("01g.5gb", Name(1, 1, 5, (), ()), "1g.5gb"),
    ("1g.5gb+me", Name(1, 1, 5, ("me",), ()), "1g.5gb+me"),
    ("1g.24gb+me.all", Name(1, 1, 24, ("me.all",), ()), "1g.24gb+me.all"),
    ("1g.24gb-me", Name(1, 1, 24, (), ("me",)), "1g.24gb-me"),
    ("1c.2g.48gb+me,gfx", Name(1, 2, 48, ("gfx", "me"), ()), "1c.2g.48gb+gfx,me"),
])
def test_parse(text: str, expected: Name, canonical: str) -> None:
    assert parse(text) == expected
    assert expected.text == canonical
    assert parse(canonical) == expected


@pytest.mark.parametrize("text", [
    "", "1g", "5gb", "1g.5", "1g.5GB", "1G.5gb", " 1g.5gb", "1g.5gb ", "1g.5gb\n", "1 g.5gb", "g.5gb", "-1g.5gb", "1c.1c.1g.5gb",
    "1g.5gb.me", "1g.5gb+", "1g.5gb-", "1g.5gb+me+gfx", "1g.5gb+me-gfx", "1g.5gb+me,me", "1g.5gb+me,", "1g.5gb+1me", "1g.5gb+.me",
    "1g.5gb+me.", "1g.5gb+m e", "1g.5gb+mé", "²g.5gb", "2c.1g.5gb", "0c.1g.5gb", "0g.5gb",
])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadNameError, match=r"^'"):
        parse(text)
