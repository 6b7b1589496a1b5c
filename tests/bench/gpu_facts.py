#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print how long gpu_facts takes on a host with eight GPUs, transport not counted. The target is 150 ms.

What is timed is what runs on the host: the module as Ansible packs it, started with a plain Python, reading the tree of
the HGX machine. Beside it stands `ping`, which does nothing: the difference is ours, the rest is Ansible's own start.
A tree below another root is read more slowly than /, for its links are followed one by one. NVML is not in the figures.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ansible.executor.module_common import modify_module  # noqa: E402
from ansible.modules import ping  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import init_plugin_loader, module_loader, module_utils_loader  # noqa: E402
from ansible.template import Templar  # noqa: E402

from plugins.module_utils.forja.facts import survey as gpu_survey  # noqa: E402
from plugins.module_utils.forja.host.files import HostFiles  # noqa: E402
from tests.lab.machines import match  # noqa: E402
from tests.lab.machines.build import build, load  # noqa: E402

RUNS = 15


def packed(name: str, path: str, arguments: dict[str, Any], python: str) -> bytes:
    """A module with its helpers, as Ansible sends it to a host whose Python is `python`."""
    made = modify_module(
        module_name=name,
        module_path=path,
        module_args=arguments,
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_python_interpreter": python},
        module_compression="ZIP_DEFLATED",
    )
    data: bytes = made.b_module_data
    return data


def timed(payload: bytes, python: str) -> tuple[float, float]:
    """Wall clock and processor time of one whole process, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run([python], input=payload, capture_output=True, check=False)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return wall * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    init_plugin_loader()
    module_loader.add_directory(str(ROOT / "plugins/modules"))
    module_utils_loader.add_directory(str(ROOT / "plugins/module_utils"))
    python = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/python3"
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "hgx"
        build(load(match.MACHINES / "hgx-h100" / "machine.yml"), tree)
        begin = time.perf_counter()
        for _run in range(20):
            gpu_survey.survey(HostFiles(str(tree)), match.means({}))
        reading = (time.perf_counter() - begin) * 1000 / 20
        ours = str(ROOT / "plugins/modules" / "gpu_facts.py")
        payloads = {
            "ping (what Ansible itself costs)": packed("ping", ping.__file__, {}, python),
            "gpu_facts, tree with 8 GPUs": packed("gpu_facts", ours, {"root": str(tree)}, python),
            "gpu_facts, / of this machine": packed("gpu_facts", ours, {}, python),
        }
        runs: dict[str, list[tuple[float, float]]] = {title: [] for title in payloads}
        for _run in range(RUNS):  # in turns, so that a busy moment hits all of them
            for title, payload in payloads.items():
                runs[title].append(timed(payload, python))
    print(f"gpu_facts with {python}: medians of {RUNS} runs")
    print(f"  {'reading and judging alone, 8 GPUs':<36}{reading:7.1f} ms")
    for title, times in runs.items():
        wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"  {title:<36}{wall:7.1f} ms, of processor time {processor:7.1f} ms")


if __name__ == "__main__":
    main()
