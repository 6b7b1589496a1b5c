# SPDX-License-Identifier: Apache-2.0
"""Compare a machine's facts with its expected.yml, and everything needed to run the survey on a built tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from plugins.module_utils.forja.facts import nvml
from plugins.module_utils.forja.facts import survey as gpu_survey
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.files import HostFiles
from tests.lab.machines.build import build, load
from tests.lab.machines.fake_nvml import FakeNvml

MACHINES = Path(__file__).parent
NAMES = sorted(path.parent.name for path in MACHINES.glob("*/machine.yml"))


def differences(expected: Any, found: Any, where: str = "gpu") -> Iterator[str]:
    """Where the facts are not what was expected. Mappings may hold more than expected, lists and values may not."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            if key not in found:
                yield f"{where}.{key}: missing"
            else:
                yield from differences(value, found[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{where}: {len(expected)} expected, {len(found)} found: {found}"
        for number, (left, right) in enumerate(zip(expected, found, strict=False)):
            yield from differences(left, right, f"{where}[{number}]")
    elif type(expected) is not type(found) or expected != found:
        yield f"{where}: expected {expected!r}, found {found!r}"


def means(machine: dict[str, Any], seconds: float = 20.0) -> gpu_survey.Means:
    """The machine's metadata service and NVML, as its description has them."""

    def ask_azure() -> str:
        if "imds" not in machine:
            raise ForjaError("no answer")
        return json.dumps(machine["imds"])

    if "nvml" not in machine:
        return gpu_survey.Means(ask_azure, None, "the nvidia kernel module is not loaded")
    return gpu_survey.Means(ask_azure, partial(nvml.read_within, FakeNvml(machine["nvml"]), seconds))


def survey(name: str, root: Path) -> dict[str, Any]:
    """Build the machine below `root` and gather all its facts."""
    machine = load(MACHINES / name / "machine.yml")
    build(machine, root)
    facts = gpu_survey.survey(HostFiles(str(root)), means(machine))
    return json.loads(json.dumps(facts))  # type: ignore[no-any-return]


def expected(name: str) -> dict[str, Any]:
    return load(MACHINES / name / "expected.yml")
