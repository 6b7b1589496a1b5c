# SPDX-License-Identifier: Apache-2.0
"""Configurations that are too deep, too large or hostile: each is refused at once, with one short sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.module_utils.forja.mig.config.selection import ConfigError, load

DIGITS = "9" * 5000


def text_of(devices: str, mig_devices: str, device_filter: str = "") -> str:
    rest = f'"device-filter": "{device_filter}", "mig-enabled": true, "mig-devices": {mig_devices}'
    return f'{{"version": "v1", "mig-configs": {{"x": [{{"devices": {devices}, {rest}}}]}}}}'


@pytest.mark.parametrize(("text", "message"), [
    ('{"a":' * 100_000, "nested more than 50 levels deep"),
    ("[" * 100_000, "nested more than 50 levels deep"),
    ('["]",' * 100_000, "nested more than 50 levels deep"),
    ("- " * 100_000, "nested more than 50 levels deep"),
    ("? " * 100_000, "nested more than 50 levels deep"),
    ("version: v1\n" + "#" * (1 << 20), "at most 1048576 are read"),
    (text_of('"all"', f'{{"1g.5gb": {DIGITS}}}'), "Looks like JSON but is not valid|is too large"),
    (text_of('"all"', f'[{{"profile": "1g.5gb", "count": {DIGITS}}}]'), "Looks like JSON but is not valid|is too large"),
    (text_of('"all"', f'[{{"profile": "3g.20gb", "compute": ["{DIGITS}c"]}}]'), "compute: the text '999.*' is not valid"),
    (text_of('"all"', '[{"profile": "3g.20gb", "compute": ["99c"]}]'), "compute: 99 is not valid"),
    (text_of('"all"', '{"1c.99999999g.5gb": 1}'), "no GPU has a profile of 99999999 slices"),
    (text_of('"all"', f'{{"1c.{DIGITS}g.5gb": 1}}'), "is too long for the name of a MIG profile"),
    (text_of('"all"', '{"1g.5gb": 1e400}'), "must be a number of 0 or more|is too large"),
    (text_of(f"[{DIGITS[:400]}]", '{"1g.5gb": 1}'), "a number of too many digits is too large"),
    (text_of('"all"', "{}", DIGITS), "device-filter must look like"),
    (f"version: v1\nmig-configs: {{{DIGITS}: []}}", "not YAML|is not valid as a key"),
    (f"{DIGITS}: x", "not YAML|is not valid as a key"),
])
def test_a_hostile_text(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("data", [
    {int("9" * 400): 1},
    {"version": int("9" * 400)},
    {"version": "v1", "mig-configs": {"x": [{"devices": [int("9" * 400)], "mig-enabled": False}]}},
])
def test_hostile_data(data: Any) -> None:
    """From Ansible, which has parsed it already."""
    with pytest.raises(ConfigError) as caught:
        load(data)
    assert len(str(caught.value)) < 200


def test_brackets_within_reason() -> None:
    labels = {f"label{number}": [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 1}}] for number in range(500)}
    assert len(load(json.dumps({"version": "v1", "mig-configs": labels})).labels) == 500
