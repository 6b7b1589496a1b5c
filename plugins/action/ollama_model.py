# SPDX-License-Identifier: Apache-2.0
"""Calls the module of the same name in slices of time and prints between them how far the pull has come.

A module cannot print while it runs. Ollama keeps what it has downloaded when a pull is cut off, so a long pull can be
many short ones; each costs a round trip and new connections to the registry, hence the growing slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

GROWTH = (1, 2, 4)  # lengths of the slices, in intervals; the last one repeats
Result = dict[str, Any]


def human(size: float) -> str:
    """Bytes in the decimal units that Ollama prints."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def progress_line(host: str, model: str, completed: int, total: int, rate: float) -> str:
    """One line on a pull that has `completed` of `total` bytes and gains `rate` bytes per second."""
    left = f", {duration((total - completed) / rate)} left" if rate > 0 else ""
    return f"{host}: {model} {100 * completed // max(total, 1)} % of {human(total)}, {human(rate)}/s{left}"


def merge(first: Result, last: Result, pulled: int) -> Result:
    """The result of a pull in several slices: from what was there before the first to what is there after the last."""
    if "model" not in last:  # it failed, or the host is gone
        return last
    digests = [(model or {}).get("digest") for model in (first["before"], last["model"])]
    return {**last, "changed": digests[0] != digests[1], "before": first["before"], "steps": first["steps"], "bytes_pulled": pulled,
            "diff": {**last["diff"], "before": first["diff"]["before"]}}


def pull_in_slices(call: Callable[[Result], Result], interval: float, report: Callable[[Result, float], None],
                   clock: Callable[[], float] = time.monotonic) -> Result:
    """Calls `call(slice)` until it is finished, `report(result, bytes per second)` after each that is not."""
    first: Result | None = None
    pulled = completed = number = 0
    while True:
        started = clock()
        result = call({"seconds": interval * GROWTH[min(number, len(GROWTH) - 1)], "beyond": completed})
        pulled += int(result.get("bytes_pulled", 0))
        if result.get("finished", True):
            return merge(first, result, pulled) if first else result
        first = first or result
        report(result, result["bytes_pulled"] / max(clock() - started, 0.001))
        completed, number = result["completed"], number + 1


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Result:
        variables = dict(task_vars or {})
        super().run(tmp, variables)
        interval = self._interval(variables)
        host, model = variables.get("inventory_hostname", "?"), self._task.args.get("name", "?")
        if self._task.async_val and not self._connection.has_native_async:
            background: Result = self._execute_module(task_vars=variables, wrap_async=True)
            return background

        def call(part: Result) -> Result:
            args = {**self._task.args, "slice": part} if interval else self._task.args
            result: Result = self._execute_module(module_args=args, task_vars=variables)
            result.get("invocation", {}).get("module_args", {}).pop("slice", None)
            return result

        def report(result: Result, rate: float) -> None:
            if not self._task.no_log:
                Display().display(progress_line(host, model, result["completed"], result["total"], rate))

        result = pull_in_slices(call, interval, report)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _interval(self, variables: dict[str, Any]) -> float:
        given = self._templar.template(variables.get("ollama_progress_interval", 15))
        try:
            return max(0.0, float(given))
        except (TypeError, ValueError):
            raise AnsibleActionFail(f"ollama_progress_interval must be a number of seconds, not {given!r}") from None
