# SPDX-License-Identifier: Apache-2.0
"""Call something that may hang, such as a library of a stuck driver, without hanging with it."""

import json
import os
import select
import signal
import time
from typing import Any, Callable

from .errors import ForjaError


class DeadlineError(ForjaError):
    """The call did not answer in time."""


class ChildError(ForjaError):
    """The call raised something, or its process died; the message says which."""


def call(function: Callable[[], Any], seconds: float) -> Any:
    """The JSON-able answer of `function`, run in a child process and given up after `seconds`.

    A child in uninterruptible sleep cannot be killed. It is then left behind, holding none of our files, so that
    neither we nor who reads our output waits for it.
    """
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise ChildError(f"no process could be started: {error}") from error
    if child == 0:
        _answer(function, reading, writing)
    os.close(writing)
    end = time.time() + seconds
    parts = []
    try:
        while True:
            ready, _w, _x = select.select([reading], [], [], max(0.0, end - time.time()))
            if not ready:
                raise DeadlineError(f"no answer within {seconds:g} s")
            part = os.read(reading, 65536)
            if not part:
                break
            parts.append(part)
    finally:
        os.close(reading)
        reap(child, end)
    try:
        answer = json.loads(b"".join(parts).decode("utf-8"))
    except ValueError:
        raise ChildError("the process that asked died before it answered") from None
    if "error" in answer:
        raise ChildError(answer["error"])
    return answer["value"]


def _answer(function: Callable[[], Any], reading: int, writing: int) -> None:
    """In the child: answer on the pipe and vanish, past every handler of the parent's program."""
    try:
        os.close(reading)
        # The parent's output pipes must not stay open in a child that nobody can kill.
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        try:
            text = json.dumps({"value": function()})
        except Exception as error:  # whatever it is, the parent gets it as a sentence
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        data = text.encode("utf-8")
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def reap(child: int, end: float) -> None:
    """Kill the child if it still runs, and wait for it a moment at most."""
    for attempt in range(20):
        try:
            done, _status = os.waitpid(child, os.WNOHANG)
            if done:
                return
            if attempt == 5 or time.time() > end:
                os.kill(child, signal.SIGKILL)
        except (ChildProcessError, ProcessLookupError):
            return  # who started us ignores SIGCHLD, and so do we: the kernel has reaped the child
        time.sleep(0.001 * (attempt + 1))
