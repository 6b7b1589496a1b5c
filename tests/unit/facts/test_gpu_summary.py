# SPDX-License-Identifier: Apache-2.0
"""The one line of gpu_facts where no recorded machine shows it; test_machines.py holds the lines of those."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.module_utils.forja.facts import summary as gpu_summary
from tests.lab.machines import match

NOUVEAU = "RTX 5060 (nouveau)"


def facts(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Those of the workstation with nouveau, with some keys changed (`driver__loaded_version` for nested ones)."""
    found = match.survey("rtx5060-nouveau", tmp_path)
    for name, value in changes.items():
        subset, _, key = name.partition("__")
        if key:
            found[subset][key] = value
        else:
            found[subset] = value
    return found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({}, f"{NOUVEAU}; open driver 595 recommended", id="as recorded"),
        pytest.param({"driver__loaded_version": "580.95.05"}, NOUVEAU, id="a loaded driver is left alone"),
        pytest.param({"driver__installed_version": "595.1"}, f"{NOUVEAU}; driver 595.1 is installed and not loaded", id="not loaded"),
        pytest.param({"driver__reboot_required": True}, f"{NOUVEAU}; reboot required", id="reboot"),
        pytest.param({"driver__rocm_version": None, "recommended__driver": "rocm"}, f"{NOUVEAU}; ROCm recommended", id="no ROCm"),
        pytest.param({"recommended__driver": "none"}, NOUVEAU, id="nothing to recommend"),
        pytest.param({"nvswitch": 1}, f"{NOUVEAU}, 1 NVSwitch; open driver 595 recommended", id="one switch"),
        pytest.param({"platform__kind": "vm"}, f"VM: {NOUVEAU}; open driver 595 recommended", id="in a VM"),
        pytest.param({"platform__kind": "azure"}, f"Azure: {NOUVEAU}; open driver 595 recommended", id="Azure without metadata"),
        pytest.param(
            {"problems": [{"name": "azure", "message": "x"}] * 2}, f"2 problems (azure); {NOUVEAU}; open driver 595 recommended", id="twice"
        ),
    ],
)
def test_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    assert gpu_summary.line(facts(tmp_path, **changes)) == line


def test_gpus_of_several_kinds(tmp_path: Path) -> None:
    found = facts(tmp_path, recommended__driver="none")
    blank = dict.fromkeys(found["gpus"][0], None)
    unknown = dict(blank, pci_id="10de:ffff", driver="vfio-pci")
    named = dict(blank, name="NVIDIA GeForce RTX 4060 Ti 16GB", memory_mib=16380, driver="nouveau")
    inside = dict(blank, name="Intel GPU 8086:a7a0", integrated=True, driver="i915")
    found["gpus"] = [inside, unknown, named, unknown]
    assert gpu_summary.line(found) == "2 x 10de:ffff (vfio-pci), RTX 4060 Ti 16GB (nouveau)"
    found["gpus"] = [inside]
    assert gpu_summary.line(found) == "Intel GPU 8086:a7a0 (i915)"


PAGE = (Path(__file__).resolve().parents[3] / "docs/topics/detection.md").read_text()


def test_the_page_shows_true_facts(tmp_path: Path) -> None:
    found = re.search(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    assert found, "docs/topics/detection.md shows no facts"
    differences = list(match.differences(yaml.safe_load(found.group(1)), match.survey("rtx3090-open", tmp_path)))
    assert not differences, "\n".join(differences)


def test_the_page_shows_true_lines() -> None:
    found = re.search(r"^```\n(.*?)^```", PAGE, re.M | re.S)
    assert found, "docs/topics/detection.md shows no summary"
    assert set(found.group(1).splitlines()) <= {match.expected(name)["summary"] for name in match.NAMES}
