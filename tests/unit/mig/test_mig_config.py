# SPDX-License-Identifier: Apache-2.0
"""Configurations of mig-parted: what it accepts means the same here, what it silently gets wrong is an error; and the built-in labels."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest
import yaml

from plugins.module_utils.forja.mig.config import labels as defaults
from plugins.module_utils.forja.mig.config.selection import ConfigError, Gpu, Selection, load
from plugins.module_utils.forja.mig.layout.card import Card, Wanted, WantedInstance
from plugins.module_utils.forja.mig.layout.solver import fits, solve
from tests.unit.mig.cards import CARDS, MODELS


def gpu(index: int, key: str, product: int = 0) -> Gpu:
    """A GPU of that model; `t4` is one that cannot do MIG."""
    uuid, address = f"GPU-0000000{index}-d33d-2b2c-524d-9e3d8d2b8a77", f"00000000:{7 + index:02x}:00.0"
    if key == "t4":
        return Gpu(index, uuid, address, "0x1EB810DE", "0x12A210DE", "Tesla T4", False, ())
    model = next(model for model in MODELS if model["key"] == key)
    one = model["products"][product]
    return Gpu(index, uuid, address, one["pci_device_id"], (one["subsystem"] or "")[:10].replace(".", "0"), one["name"], True,
               tuple(profile.name for profile in CARDS[key].profiles))


A100, A30, H100 = gpu(0, "a100-40gb"), gpu(1, "a30-24gb"), gpu(2, "h100-80gb-sxm")
T4 = gpu(3, "t4")


def one(**entry: Any) -> dict[str, Any]:
    """A configuration with one entry under the label x, which asks for seven 1g.5gb on all unless told otherwise."""
    full = {"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}
    full.update({key.replace("_", "-"): value for key, value in entry.items()})
    return {"version": "v1", "mig-configs": {"x": [{key: value for key, value in full.items() if value is not ...}]}}


def wanted(**counts: int) -> Wanted:
    return Wanted(True, tuple(sorted((name, 1, count) for name, count in counts.items())))


SEVEN = Wanted(True, (("1g.5gb", 1, 7),))

# --- the form, and what it means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "expected"), [
    ({}, {0: SEVEN}),
    ({"mig_enabled": False, "mig_devices": ...}, {0: Wanted(False)}),
    ({"mig_enabled": False, "mig_devices": {}}, {0: Wanted(False)}),
    ({"mig_enabled": False, "mig_devices": None}, {0: Wanted(False)}),
    ({"mig_devices": {}}, {0: Wanted(True)}),  # enabled and empty
    ({"mig_devices": []}, {0: Wanted(True)}),
    ({"devices": [0]}, {0: SEVEN}),
    ({"devices": [0, 0]}, {0: SEVEN}),
    ({"devices": ["GPU-00000000-D33D-2b2c-524d-9e3d8d2b8a77"]}, {0: SEVEN}),
    ({"devices": ["0000:07:00.0"]}, {0: SEVEN}),
    ({"devices": ["07:00.0"]}, {0: SEVEN}),
    ({"device_filter": "0x20B010DE"}, {0: SEVEN}),
    ({"device_filter": "0x20b010de"}, {0: SEVEN}),
    ({"device_filter": "548409566"}, {0: SEVEN}),  # Go reads numbers so
    ({"device_filter": ["0x233010DE", "0X20B010DE:0x134F10DE"]}, {0: SEVEN}),
    ({"device_filter": ""}, {0: SEVEN}),
    ({"device_filter": []}, {0: SEVEN}),
    ({"device_filter": None}, {0: SEVEN}),
    ({"mig_devices": {"1g.5gb": 2, "2g.10gb": 0, "3g.20gb": 1}}, {0: Wanted(True, (("1g.5gb", 1, 2), ("3g.20gb", 3, 1)))}),
    ({"mig_devices": {"1c.3g.20gb": 3, "2c.3g.20gb": 1}}, {0: Wanted(True, (("3g.20gb", 1, 3), ("3g.20gb", 2, 1)))}),
    ({"mig_devices": {"01g.5gb": 1, "7c.7g.40gb": 1.0}}, {0: Wanted(True, (("1g.5gb", 1, 1), ("7g.40gb", 7, 1)))}),
    ({"mig_devices": {"1g.5gb+me": 1}}, {0: Wanted(True, (("1g.5gb+me", 1, 1),))}),
    ({"mig_devices": [{"profile": "3g.20gb", "placement": 4, "compute": ["1c", "2c"]}, {"profile": "1g.5gb", "count": 2},
                      {"profile": "2g.10gb", "compute": [1, 1]}, {"profile": "7g.40gb", "count": 0}]},
     {0: Wanted(True, instances=(WantedInstance("3g.20gb", 4, (1, 2)), WantedInstance("1g.5gb", None, (1,)),
                                 WantedInstance("1g.5gb", None, (1,)), WantedInstance("2g.10gb", None, (1, 1))))}),
])
def test_an_entry(entry: dict[str, Any], expected: dict[int, Wanted]) -> None:
    config = load(one(**entry))
    assert config.select(None, [A100]) == config.select("x", [A100]) == Selection("x", expected, ())
    for text in (json.dumps(one(**entry)), yaml.safe_dump(one(**entry))):
        assert load(text).select("x", [A100]).wanted == expected


@pytest.mark.parametrize(("entry", "message"), [
    ({"devices": ...}, ": the key devices is missing."),
    ({"mig_enabled": ...}, ": the key mig-enabled is missing."),
    ({"mig_enabled": "true"}, ": mig-enabled must be true or false, without quotes, not the text 'true'."),
    ({"mig_enabled": None}, ": mig-enabled must be true or false, without quotes, not nothing."),
    ({"mig_enabled": 1}, ": mig-enabled must be true or false, without quotes, not 1."),
    ({"mig_devices": ...}, ": mig-enabled is true, so the key mig-devices is needed; {} asks for none."),
    ({"mig_devices": None}, ": mig-enabled is true, so the key mig-devices is needed; {} asks for none."),
    ({"mig_enabled": False}, ": mig-enabled is false, so there can be no mig-devices."),
    ({"mig_device": {}}, ": unknown key mig-device (did you mean mig-devices?); known are device-filter, devices, mig-devices, "
     "mig-enabled."),
    ({"devices": "0"}, ": devices must be all or a list such as [0, 1], not the text '0'."),
    ({"devices": 0}, ": devices must be all or a list such as [0, 1], not 0."),
    ({"devices": None}, ": devices must be all or a list such as [0, 1], not nothing."),
    ({"devices": ["0"]},
     ": devices: '0' names no GPU; use numbers without quotes, UUIDs (GPU-...) or PCI addresses such as 0000:07:00.0."),
    ({"devices": [True]}, ", devices: must be a number of 0 or more, without quotes, not true or false."),
    ({"devices": [4.0]},
     ", devices: must be a number such as 4, not 4.0; a PCI address needs quotes, else YAML reads 0000:00:04.0 as 4.0."),
    ({"devices": [-1]}, ", devices: must be a number of 0 or more, without quotes, not -1."),
    ({"devices": [1]},
     ": this node has no GPU 1. It has GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE), GPU-00000000-d33d-2b2c-524d-9e3d8d2b8a77 at "
     "00000000:07:00.0."),
    ({"devices": ["0001:07:00.0"]},
     ": this node has no GPU 0001:07:00.0. It has GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE), "
     "GPU-00000000-d33d-2b2c-524d-9e3d8d2b8a77 at 00000000:07:00.0."),
    ({"devices": []}, "Label x: none of its entries matches a GPU of this node. It has GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE)."),
    ({"device_filter": "0x20B310DE"},
     "Label x: none of its entries matches a GPU of this node. It has GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE)."),
    ({"device_filter": "0x20B010DE:0x145F10DE"},
     "Label x: none of its entries matches a GPU of this node. It has GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE)."),
    ({"device_filter": "A100"}, ": device-filter must look like \"0x20B010DE\" or \"0x25B610DE:0x14A910DE\", not the text 'A100'."),
    ({"device_filter": [""]}, ": device-filter must look like \"0x20B010DE\" or \"0x25B610DE:0x14A910DE\", not the text ''."),
    ({"device_filter": "0x20B010DE:0x1:0x2"},
     ": device-filter must look like \"0x20B010DE\" or \"0x25B610DE:0x14A910DE\", not the text '0x20B010DE:0x1:0x2'."),
    ({"device_filter": "0x120B010DE"},
     ": device-filter must look like \"0x20B010DE\" or \"0x25B610DE:0x14A910DE\", not the text '0x120B010DE'."),
    ({"device_filter": 0x20B010DE},
     ': device-filter must look like "0x20B010DE" or "0x25B610DE:0x14A910DE", not 548409566; it needs quotes.'),
    ({"device_filter": "0x20B0"}, ": device-filter 0x20B0 matches no NVIDIA GPU: the last four digits are the vendor, 10DE."),
    ({"mig_devices": {"1g.7gb": 1}},
     ": GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE) has no profile 1g.7gb; it has 1g.5gb, 1g.5gb+me, 1g.10gb, 2g.10gb, 3g.20gb, "
     "4g.20gb, 7g.40gb. Drivers differ in these names: perhaps 1g.5gb is meant."),
    ({"mig_devices": {"7g.80gb": 1}},
     ": GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE) has no profile 7g.80gb; it has 1g.5gb, 1g.5gb+me, 1g.10gb, 2g.10gb, 3g.20gb, "
     "4g.20gb, 7g.40gb."),
    ({"mig_devices": {"1g.5gb": 0, "2g.10gb": 0}}, ", mig-devices: all counts are 0; write {} to ask for none."),
    ({"mig_devices": [{"profile": "1g.5gb", "count": 0}]}, ", mig-devices: all counts are 0; write {} to ask for none."),
    ({"mig_devices": {"1g.5gb": -1}}, ", mig-devices, 1g.5gb: must be a number of 0 or more, without quotes, not -1."),
    ({"mig_devices": {"1g.5gb": "2"}}, ", mig-devices, 1g.5gb: must be a number of 0 or more, without quotes, not the text '2'."),
    ({"mig_devices": {"1g.5gb": True}}, ", mig-devices, 1g.5gb: must be a number of 0 or more, without quotes, not true or false."),
    ({"mig_devices": {"1g.5gb": 1.5}}, ", mig-devices, 1g.5gb: must be a number of 0 or more, without quotes, not 1.5."),
    ({"mig_devices": {"1g.5gb": None}}, ", mig-devices, 1g.5gb: must be a number of 0 or more, without quotes, not nothing."),
    ({"mig_devices": {"big": 1}},
     ", mig-devices: 'big' is not the name of a MIG profile; such names look like 1g.5gb, 1g.5gb+me or 1c.3g.20gb."),
    ({"mig_devices": {"3c.4g.20gb": 1}},
     ", mig-devices: 3c.4g.20gb is not valid: a GPU instance of 4 slices takes compute instances of 1c or 2c or 4c."),
    ({"mig_devices": "1g.5gb"},
     ", mig-devices: must be a mapping such as {\"1g.5gb\": 7} or a list of GPU instances, not the text '1g.5gb'."),
    ({"mig_devices": ["1g.5gb"]},
     ", mig-devices, item 1: needs at least the key profile, as in {profile: 3g.20gb, placement: 4, compute: [1c, 2c]}."),
    ({"mig_devices": [{"profile": "1g.5gb", "start": 1}]},
     ", mig-devices, item 1: unknown key start; known are compute, count, placement, profile."),
    ({"mig_devices": [{"profile": 5}]},
     ", mig-devices, item 1: '5' is not the name of a MIG profile; such names look like 1g.5gb, 1g.5gb+me or 1c.3g.20gb."),
    ({"mig_devices": [{"profile": "1c.3g.20gb"}]},
     ", mig-devices, item 1: name the GPU instance, profile: 3g.20gb, and give compute: [1c]."),
    ({"mig_devices": [{"profile": "3g.20gb", "placement": 0, "count": 2}]},
     ", mig-devices, item 1: only one GPU instance can be at one placement, not 2."),
    ({"mig_devices": [{"profile": "3g.20gb", "count": 10**12}]},
     ", mig-devices, item 1, count: 1000000000000 is too large."),
    ({"mig_devices": [{"profile": "3g.20gb", "placement": "4"}]},
     ", mig-devices, item 1, placement: must be a number of 0 or more, without quotes, not the text '4'."),
    ({"mig_devices": [{"profile": "3g.20gb", "compute": []}]}, ", mig-devices, item 1: compute must be a list such as [1c, 2c], not []."),
    ({"mig_devices": [{"profile": "3g.20gb", "compute": ["4c"]}]},
     ", mig-devices, item 1: compute: 4 is not valid: a GPU instance of 3 slices takes compute instances of 1c or 2c or 3c."),
    ({"mig_devices": [{"profile": "3g.20gb", "compute": ["all"]}]},
     ", mig-devices, item 1: compute: the text 'all' is not valid: a GPU instance of 3 slices takes compute instances of 1c or 2c or "
     "3c."),
])
def test_an_entry_that_cannot_be(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(one(**entry)).select("x", [A100])
    assert str(caught.value) == (message if message.startswith("Label") else "Label x, entry 1" + message)


# --- several GPUs ------------------------------------------------------------------------------------------------------

NODE = [A100, A30, H100, T4]


def label(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"version": "v1", "mig-configs": {"x": [{"devices": "all", "mig-enabled": True, **entry} for entry in entries]}}


@pytest.mark.parametrize(("entries", "expected"), [
    # a card that cannot do MIG is passed over under `all`, and when MIG is to be off
    ([{"mig-enabled": False}], {0: Wanted(False), 1: Wanted(False), 2: Wanted(False)}),
    ([{"mig-enabled": False, "devices": [1, 3]}], {1: Wanted(False)}),
    ([{"mig-devices": {}}], {0: Wanted(True), 1: Wanted(True), 2: Wanted(True)}),
    # an entry for cards that are not here says nothing, not even through its devices
    ([{"device-filter": "0x20B710DE", "mig-devices": {"1g.6gb": 4}},
      {"device-filter": "0x26B510DE", "devices": [9], "mig-devices": {"9g.1gb": 1}}], {1: wanted(**{"1g.6gb": 4})}),
    ([{"device-filter": ["0x20B710DE", "0x20B010DE"], "mig-devices": {}}], {0: Wanted(True), 1: Wanted(True)}),
    ([{"device-filter": "0x20B710DE", "devices": [0, 1], "mig-devices": {}}], {1: Wanted(True)}),
    # the same entry twice is no contradiction
    ([{"devices": [0], "mig-devices": {"1g.5gb": 7}}, {"devices": [0], "mig-devices": {"1g.5gb": 7, "2g.10gb": 0}}], {0: SEVEN}),
])
def test_a_label_on_a_mixed_node(entries: list[dict[str, Any]], expected: dict[int, Wanted]) -> None:
    assert load(label(*entries)).select("x", NODE) == Selection("x", expected, ())


def test_the_last_of_two_entries_wins_and_says_so() -> None:
    chosen = load(label({"mig-enabled": False}, {"devices": [0], "mig-devices": {"1g.5gb": 7}})).select("x", [A100, A30])
    assert chosen == Selection("x", {0: SEVEN, 1: Wanted(False)}, (
        "Label x, entry 2: this overrides what an earlier entry asks of GPU 0 (NVIDIA A100-SXM4-40GB, 0x20B010DE).",))


@pytest.mark.parametrize(("entries", "gpus", "message"), [
    ([{"mig-devices": {"1g.5gb": 7}}], NODE,
     "Label x, entry 1: GPU 1 (NVIDIA A30, 0x20B710DE) has no profile 1g.5gb; it has 1g.6gb, 1g.6gb+me, 2g.12gb, 2g.12gb+me, 4g.24gb. "
     "Drivers differ in these names: perhaps 1g.6gb is meant. "
     'Other GPUs of this node have it: device-filter: ["0x20B010DE"] keeps the entry to them.'),
    ([{"devices": [0, 3], "mig-devices": {}}], NODE, "Label x, entry 1: GPU 3 (Tesla T4, 0x1EB810DE) cannot do MIG."),
    ([{"mig-devices": {}}], [T4], "Label x: no GPU that it names can do MIG. This node has GPU 3 (Tesla T4, 0x1EB810DE)."),
    ([{"mig-devices": {}}], [], "Label x: none of its entries matches a GPU of this node. It has no NVIDIA GPU."),
])
def test_a_label_that_cannot_be(entries: list[dict[str, Any]], gpus: list[Gpu], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(label(*entries)).select("x", gpus)
    assert str(caught.value) == message


@pytest.mark.parametrize("gpus", [[], [T4]])
def test_without_a_gpu_that_can_nothing_is_to_be_switched_off(gpus: list[Gpu]) -> None:
    assert load(label({"mig-enabled": False})).select("x", gpus).wanted == {}


# --- labels ------------------------------------------------------------------------------------------------------------

LABELS = "version: v1\nmig-configs:\n  %s:\n  - {devices: all, mig-enabled: %s, mig-devices: {}}\n"


@pytest.mark.parametrize(("written", "asked"), [
    ("on", "on"), ("on", "true"), ("on", "yes"), ("Yes", "on"), ("y", "true"), ("true", "ON"), ("off", "false"), ("off", "off"),
    ("no", "off"), ("n", "no"), ("'on'", "on"), ("'off'", "false"), ("7", "7"), ("1.5", "1.5"), ("2024-01-01", "2024-01-01"),
    ("all-1g.5gb", "all-1g.5gb"),
])
def test_labels_as_yaml_1_1_reads_them(written: str, asked: str) -> None:
    config = load(LABELS % (written, "true"))
    assert config.select(asked, [A100]).wanted == config.select(None, [A100]).wanted == {0: Wanted(True)}
    parsed = load(yaml.safe_load(LABELS % (written, "yes")))  # as Ansible hands it over, `on` being True
    assert parsed.select(asked, [A100]).wanted == {0: Wanted(True)}


def test_a_label_that_yaml_changed_is_listed_as_mig_parted_sees_it() -> None:
    assert load(LABELS % ("on", "y")).labels == ("true",)


@pytest.mark.parametrize(("text", "message"), [
    (LABELS % ("balanced", "true"), "There is no label x; there is balanced."),
    (LABELS % ("xx", "true"), "There is no label x (did you mean xx?); there is xx."),
    ("", "There is no mig-configs in this configuration, so there is nothing to select."),
    ("{}", "There is no mig-configs in this configuration, so there is nothing to select."),
    ("version: v1", "There is no mig-configs in this configuration, so there is nothing to select."),
])
def test_a_label_that_is_not_there(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text).select("x", [A100])
    assert str(caught.value) == message


def test_a_label_must_be_named_where_there_are_several() -> None:
    config = load({"version": "v1", "mig-configs": {name: [{"devices": "all", "mig-enabled": False}] for name in "abcdefghijklmn"}})
    with pytest.raises(ConfigError, match=r"^Select one of the 14 labels: a, b, c, d, e, f, g, h, i, j, k, l, and 2 more\.$"):
        config.select(None, [A100])


# --- the text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "message"), [
    ("- a", "A configuration is a mapping with the keys version and mig-configs, not a list or a plain value."),
    ("nonsense", "A configuration is a mapping with the keys version and mig-configs, not a list or a plain value."),
    ("mig-configs: {}", "Missing `version: v1` in the configuration: found no version."),
    ("version: 1", "Missing `version: v1` in the configuration: found 1."),
    ("version: v2", "Missing `version: v1` in the configuration: found v2."),
    ("version: v1\nmig-config: {}", "Configuration: unknown key mig-config (did you mean mig-configs?); known are mig-configs, version."),
    ("version: v1\nmig-configs: {}", "mig-configs must be a mapping of at least one label to its entries."),
    ("version: v1\nmig-configs:", "mig-configs must be a mapping of at least one label to its entries."),
    ("version: v1\nmig-configs: [a]", "mig-configs must be a mapping of at least one label to its entries."),
    ("version: v1\nmig-configs: {x: []}", "Label x: needs a list of at least one entry."),
    ("version: v1\nmig-configs: {x: }", "Label x: needs a list of at least one entry."),
    ("version: v1\nmig-configs: {x: {devices: all}}", "Label x: needs a list of at least one entry."),
    ("version: v1\nmig-configs: {x: [a]}", "Label x, entry 1: needs the keys devices and mig-enabled, not the text 'a'."),
    ("version: v1\nmig-configs: {~: [a]}", "mig-configs: None is not valid as a key."),
    ("version: v1\nversion: v1", "Line 2: the key version is given twice."),
    ("version: v1\nmig-configs:\n  a: []\n  b: []\n  a: []", "Line 5: the key a is given twice."),
    ("version: v1\nmig-configs: {on: [], yes: []}", "Line 2: the key yes is given twice."),
    ("version: v1\nmig-configs: {on: [], 'true': []}",
     "mig-configs: the key true is given twice (on, yes and true are one key; so are off, no and false)."),
    ('{"version": "v1", "mig-configs": {"a": 1, "b": 2, "a": 3}}', "The key a is given twice."),
])
def test_a_text_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", [
    "version: [", "\tversion: v1", "version: v1\n---\nversion: v1", "{nonsense", "version: \udcff", "version: !!python/name:os.system x",
])
def test_a_text_that_is_no_yaml(text: str) -> None:
    with pytest.raises(ConfigError, match="This is not YAML: "):
        load(text)


def test_yaml_beyond_the_plain() -> None:
    config = load("{version: v1, mig-configs: {x: [{devices: all, mig-enabled: yes, mig-devices: {1g.5gb: 7}}]}}")
    assert config.select(None, [A100]).wanted == {0: SEVEN}
    config = load("\ufeffversion: v1\nmig-configs:\n  a: &all\n  - &one {devices: all, mig-enabled: on, mig-devices: {1g.5gb: 1}}\n"
                  "  b: *all\n  c:\n  - <<: *one\n    mig-devices: {1g.5gb: 7}\n")
    assert config.labels == ("a", "b", "c")
    assert config.select("b", [A100]).wanted == {0: wanted(**{"1g.5gb": 1})}
    assert config.select("c", [A100]).wanted == {0: SEVEN}


def test_a_pci_address_needs_no_quotes_in_text() -> None:
    """YAML 1.1 takes it for a number to the base of 60, and so the address of the third GPU here for the index 6."""
    text = "version: v1\nmig-configs:\n  12:30:\n  - {devices: [%s], mig-enabled: true, mig-devices: {}}\n"
    many = [A100._replace(index=index, address=f"0000:00:{4 + index:02x}.0") for index in range(8)]
    for place in ("0000:00:06.0", "00:06.0"):
        config = load(text % place)
        assert config.labels == ("12:30",)
        assert set(config.select(None, many).wanted) == {2}
    assert set(load(text % "6").select(None, many).wanted) == {6}


def test_json_needs_no_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert load("\n " + json.dumps(one())).select(None, [A100]).wanted == {0: SEVEN}
    assert load(one()).labels == ("x",)
    with pytest.raises(ConfigError, match=r"^To read YAML, install python3-yaml; a configuration in JSON needs nothing\.$"):
        load("version: v1")
    with pytest.raises(ConfigError, match=r"^Looks like JSON but is not valid: .*To read YAML, install python3-yaml"):
        load("{version: v1}")


# --- mig-parted's own file, and our labels without one -----------------------------------------------------------------

# Labels of deployments/systemd/config-default.yaml, retold: one per kind of card, and those with more than one entry.
EIGHTS = {"0x233010DE", "0x233110DE", "0x232210DE", "0x20B210DE", "0x20B510DE", "0x20F310DE", "0x20F510DE", "0x232410DE"}
FORTIES = {"0x20B010DE", "0x20B110DE", "0x20F110DE", "0x20F610DE"}
BALANCED: list[tuple[set[str], list[str]]] = [
    ({"0x20B010DE", "0x20B110DE", "0x20F110DE", "0x20F610DE"}, ["1g.5gb", "2g.10gb", "3g.20gb"]),
    (EIGHTS, ["1g.10gb", "2g.20gb", "3g.40gb"]),
    ({"0x20B710DE"}, ["1g.6gb", "2g.12gb"]), ({"0x232110DE", "0x233A10DE"}, ["1g.12gb", "2g.24gb", "3g.47gb"]),
    ({"0x234210DE", "0x233D10DE", "0x20B610DE", "0x232910DE"}, ["1g.12gb", "2g.24gb", "3g.48gb"]),
    ({"0x233510DE", "0x233B10DE"}, ["1g.18gb", "2g.35gb", "3g.71gb"]), ({"0x234810DE"}, ["1g.18gb", "2g.36gb", "3g.72gb"]),
    ({"0x290110DE"}, ["1g.23gb", "2g.45gb", "3g.90gb"]), ({"0x294110DE"}, ["1g.23gb", "2g.47gb", "3g.93gb"]),
    ({"0x318210DE"}, ["1g.34gb", "2g.67gb", "3g.135gb"]), ({"0x31C210DE"}, ["1g.35gb", "2g.70gb", "3g.139gb"]),
    ({"0x2BB510DE"}, ["1g.24gb", "2g.48gb"]),
]
ALL = {"devices": "all", "mig-enabled": True}
DEFAULT_FILE: dict[str, Any] = {"version": "v1", "mig-configs": {
    "all-disabled": [{"devices": "all", "mig-enabled": False}],
    "all-enabled": [{**ALL, "mig-devices": {}}],
    "all-1g.5gb": [{**ALL, "mig-devices": {"1g.5gb": 7}}],
    "all-1g.5gb.me": [{**ALL, "mig-devices": {"1g.5gb+me": 1}}],
    "all-3g.20gb": [{**ALL, "mig-devices": {"3g.20gb": 2}}],
    "all-7g.40gb": [{**ALL, "mig-devices": {"7g.40gb": 1}}],
    "all-1g.10gb": [{"device-filter": sorted(EIGHTS), **ALL, "mig-devices": {"1g.10gb": 7}},
                    {"device-filter": sorted(FORTIES), **ALL, "mig-devices": {"1g.10gb": 4}}],
    "all-1g.20gb": [{**ALL, "mig-devices": {"1g.20gb": 4}}],
    "all-1g.6gb": [{**ALL, "mig-devices": {"1g.6gb": 4}}],
    "all-2g.12gb.me": [{**ALL, "mig-devices": {"2g.12gb+me": 1}}],
    "all-1g.35gb": [{"device-filter": "0x31C210DE", **ALL, "mig-devices": {"1g.35gb": 7}},
                    {"device-filter": ["0x233510DE", "0x233B10DE"], **ALL, "mig-devices": {"1g.35gb": 4}}],
    "all-1g.24gb.gfx": [{**ALL, "mig-devices": {"1g.24gb+gfx": 4}}],
    "all-1g.24gb.me.all": [{**ALL, "mig-devices": {"1g.24gb+me.all": 1}}],
    "all-1g.24gb-me": [{**ALL, "mig-devices": {"1g.24gb-me": 4}}],
    "all-4g.96gb": [{**ALL, "mig-devices": {"4g.96gb": 1}}],
    "all-balanced": [{"device-filter": sorted(ids) if len(ids) > 1 else next(iter(ids)), **ALL,
                      "mig-devices": {name: 2 if name.startswith("1g") else 1 for name in names}} for ids, names in BALANCED],
}}
each_model = pytest.mark.parametrize("key", [model["key"] for model in MODELS])


@each_model
def test_the_default_file_asks_what_our_labels_ask(key: str) -> None:
    """Whatever label of the file suits the card means what the computed one of that name means; one that suits no card is an error."""
    card, one_gpu = CARDS[key], gpu(0, key)
    config = load(yaml.safe_dump(DEFAULT_FILE, sort_keys=False))
    assert load(json.dumps(DEFAULT_FILE)).labels == config.labels
    suiting = []
    for name in config.labels:
        if name in defaults.labels({0: card}):
            suiting.append(name)
            assert config.select(name, [one_gpu, T4]) == defaults.select(name, [one_gpu, T4], {0: card})
            assert fits(card, config.select(name, [one_gpu]).wanted[0]) or name == "all-disabled"
        else:
            with pytest.raises(ConfigError):
                config.select(name, [one_gpu])
            with pytest.raises(ConfigError):
                defaults.select(name, [one_gpu], {0: card})
    assert {"all-disabled", "all-enabled", "all-balanced"} <= set(suiting)


@each_model
def test_each_built_in_label_fills_its_card(key: str) -> None:
    card, bare = CARDS[key], Card(tuple(profile._replace(placements=()) for profile in CARDS[key].profiles))
    for name in defaults.labels({0: card}):
        chosen = defaults.select(name, [gpu(0, key)], {0: card})
        assert chosen == defaults.select(name, [gpu(0, key)], {0: bare})
        layout = solve(card, [], chosen.wanted[0])
        assert [profile.count for profile in card.profiles if name == "all-" + profile.name.replace("+", ".")] in ([], [len(layout.new)])


def test_a_count_that_nvml_has_wrong() -> None:
    card = CARDS["a30-24gb"]
    wrong = Card(tuple(profile._replace(count=7) for profile in card.profiles))
    assert defaults.select("all-1g.6gb", [A30], {1: wrong}).wanted == {1: wanted(**{"1g.6gb": 4})}


@pytest.mark.parametrize(("name", "gpus", "message"), [
    ("all-1g.5gb", [A100, A30], "Label all-1g.5gb does not exist for GPU 1 (NVIDIA A30, 0x20B710DE), which has all-disabled, all-enabled, "
     "all-balanced, all-1g.6gb, all-1g.6gb.me, all-2g.12gb, all-2g.12gb.me, all-4g.24gb. Where GPUs differ, write a configuration with "
     "device-filter."),
    ("all-1g.6", [A30], "There is no label all-1g.6 (did you mean all-1g.6gb?); without a configuration there is all-disabled, "
     "all-enabled, all-balanced, all-1g.6gb, all-1g.6gb.me, all-2g.12gb, all-2g.12gb.me, all-4g.24gb."),
    ("all-balanced", [T4], "Label all-balanced: no GPU of this node can do MIG. It has GPU 3 (Tesla T4, 0x1EB810DE)."),
    ("all-enabled", [], "Label all-enabled: no GPU of this node can do MIG. It has no NVIDIA GPU."),
])
def test_a_built_in_label_that_cannot_be(name: str, gpus: list[Gpu], message: str) -> None:
    cards = {0: CARDS["a100-40gb"], 1: CARDS["a30-24gb"]}
    with pytest.raises(ConfigError) as caught:
        defaults.select(name, gpus, {one_gpu.index: cards[one_gpu.index] for one_gpu in gpus if one_gpu.capable})
    assert str(caught.value) == message


def test_built_in_labels_of_a_mixed_node() -> None:
    cards = {0: CARDS["a100-40gb"], 1: CARDS["a30-24gb"]}
    assert defaults.labels({}) == ("all-disabled", "all-enabled")
    assert defaults.select("all-disabled", [T4], {}).wanted == {}
    assert defaults.select("all-balanced", [A100, A30, T4], cards).wanted == {
        0: Wanted(True, (("1g.5gb", 1, 2), ("2g.10gb", 2, 1), ("3g.20gb", 3, 1))), 1: Wanted(True, (("1g.6gb", 1, 2), ("2g.12gb", 2, 1)))}
