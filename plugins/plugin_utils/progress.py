# SPDX-License-Identifier: Apache-2.0
"""Base of the action plugins whose modules take long: calls the module in slices of time and prints between them how far it has come.

Each slice costs a round trip, and a download a new connection, hence the growing slices. It works over any connection, prints nothing
with `async`, with `no_log` and with `forja_progress: 0`, and leaves nothing running when it is killed. Action plugins find this file
by its path: they are loaded by path themselves, from a checkout as from an installed collection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

VARIABLE, SECONDS = "forja_progress", 15
GROWTH = (1, 2, 4)  # lengths of the slices, in intervals; the last one repeats
Result = dict[str, Any]


def human(size: float) -> str:
    """Render bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def progress_line(host: str, status: Mapping[str, Any], rate: float) -> str:
    """Render one line; `status` is that of host/progress.py, `rate` what it gains a second."""
    done, total = status["done"], status["total"]
    if status["unit"] == "bytes":
        amount, speed = (f"{100 * done // total} % of {human(total)}" if total else human(done)), f", {human(rate)}/s"
    else:
        amount, speed = f"{done} of {total} {status['unit']}" if total else f"{done} {status['unit']}", ""
    left = f", {duration((total - done) / rate)} left" if rate > 0 and total > done else ""
    return f"{host}: {status['what']} {amount}{speed}{left}{', ' + status['text'] if status['text'] else ''}"


def run_in_slices(call: Callable[[Result], Result], interval: float, report: Callable[[Result, float], None],
                  merge: Callable[[Result, Result, int], Result], clock: Callable[[], float] = time.monotonic) -> Result:
    """Call `call(slice)` until it is finished, and `report(status, gain per second)` after each call that is not.

    `merge(first, last, gained)` gives the result of several calls, `gained` being what all but the last have added.
    """
    first: Result | None = None
    done = number = gained = 0
    while True:
        begin = clock()
        result = call({"seconds": interval * GROWTH[min(number, len(GROWTH) - 1)], "beyond": done})
        if result.get("finished", True):
            return merge(first, result, gained) if first else result
        status, first = result["progress"], first or result
        report(status, status["gained"] / max(clock() - begin, 0.001))
        done, number, gained = status["done"], number + 1, gained + status["gained"]


class ProgressAction(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    """Give a subclass named ActionModule in plugins/action/<module>.py; the module takes the option `slice` of host/progress.py."""

    _supports_async = True

    def merge(self, first: Result, last: Result, gained: int) -> Result:
        """Return the result of all slices, from that of the first and that of the last; `gained` is what those before the last added."""
        return last

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Result:
        variables = dict(task_vars or {})
        super().run(tmp, variables)
        interval = self._interval(variables)
        if self._task.async_val and not self._connection.has_native_async:
            background: Result = self._execute_module(task_vars=variables, wrap_async=True)
            return background

        def call(part: Result) -> Result:
            args = {**self._task.args, "slice": part} if interval else self._task.args
            result: Result = self._execute_module(module_args=args, task_vars=variables)
            result.get("invocation", {}).get("module_args", {}).pop("slice", None)
            return result

        def report(status: Result, rate: float) -> None:
            if not self._task.no_log:
                Display().display(progress_line(variables.get("inventory_hostname", "?"), status, rate))

        result = run_in_slices(call, interval, report, self.merge)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _interval(self, variables: dict[str, Any]) -> float:
        given = self._templar.template(variables.get(VARIABLE, SECONDS))
        try:
            return max(0.0, float(given))
        except (TypeError, ValueError):
            raise AnsibleActionFail(f"{VARIABLE} must be a number of seconds, not {given!r}") from None
