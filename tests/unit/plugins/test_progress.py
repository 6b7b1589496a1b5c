# SPDX-License-Identifier: Apache-2.0
"""The lines that long work prints, and the slices of time between them."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.plugin_utils.progress import duration, progress_line, run_in_slices


def status(done: int, total: int, **more: Any) -> dict[str, Any]:
    return {"what": "llama3.2:3b", "done": done, "total": total, "unit": "bytes", "text": "", "gained": 10, **more}


def test_progress_lines() -> None:
    assert progress_line("ws12", status(820_000_000, 2_000_000_000), 35e6) == "ws12: llama3.2:3b 41 % of 2.0 GB, 35 MB/s, 34 s left"
    assert progress_line("h", status(0, 10_000_000_000), 1e6).endswith("0 % of 10.0 GB, 1 MB/s, 2 h 46 min left")
    assert progress_line("h", status(1, 2), 0).endswith("50 % of 2 B, 0 B/s")
    assert progress_line("h", status(5000, 0), 10).endswith("llama3.2:3b 5 kB, 10 B/s")
    assert progress_line("h", status(3, 7, unit="layers", text="compiling"), 0.1) == "h: llama3.2:3b 3 of 7 layers, 40 s left, compiling"
    assert duration(125) == "2 min 05 s"


def test_slices_grow_and_the_gains_add_up() -> None:
    results: list[dict[str, Any]] = [{"finished": False, "progress": status(10, 50)},
                                     {"finished": False, "progress": status(25, 50, gained=15)}, {"changed": True}]
    slices, reports = list[Any](), list[Any]()

    def call(part: dict[str, Any]) -> dict[str, Any]:
        slices.append(part)
        return results[len(slices) - 1]

    def merge(first: Any, last: Any, gained: int) -> Any:
        return {"first": first, **last, "gained": gained}

    result = run_in_slices(call, 15, lambda found, rate: reports.append((found["done"], rate)), merge, iter(range(0, 90, 5)).__next__)
    assert slices == [{"seconds": 15, "beyond": 0}, {"seconds": 30, "beyond": 10}, {"seconds": 60, "beyond": 25}]
    assert reports == [(10, 2.0), (25, 3.0)]
    assert result == {"first": results[0], "changed": True, "gained": 25}


@pytest.mark.parametrize("result", [{"failed": True, "msg": "full"}, {"unreachable": True}, {"changed": True}])
def test_work_of_one_slice_comes_back_as_it_is(result: dict[str, Any]) -> None:
    assert run_in_slices(lambda _: result, 15, lambda *_: None, lambda *_: {}) is result
