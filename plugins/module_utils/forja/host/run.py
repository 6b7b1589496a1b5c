# SPDX-License-Identifier: Apache-2.0
"""Run programs. Helpers take a `Run` instead of starting processes, so that tests can answer in their place."""

from typing import Any, Callable, List, NamedTuple

NOT_FOUND = 127  # as a shell says it


class Result(NamedTuple):
    """What a program left: exit status, standard output and standard error as text."""

    rc: int
    out: str
    err: str


Run = Callable[[List[str]], Result]
Feed = Callable[[List[str], str], Result]  # with a text on the program's standard input


def module_run(module: Any, **environment: str) -> Run:
    """Return a `Run` that uses the `run_command` of an AnsibleModule, in the locale C and with `environment` on top.

    A program that is not installed is a result with the exit status NOT_FOUND, not an error.
    """
    variables = dict(environment, LC_ALL="C")

    def run(argv: List[str]) -> Result:
        try:
            return Result(*module.run_command(argv, handle_exceptions=False, environ_update=variables))
        except OSError as error:
            return Result(NOT_FOUND, "", str(error))

    return run


def module_feed(module: Any) -> Feed:
    """Return a `Feed` for secrets, which a command line would show to every user of the host."""

    def feed(argv: List[str], text: str) -> Result:
        try:
            return Result(*module.run_command(argv, data=text, binary_data=True, handle_exceptions=False, environ_update={"LC_ALL": "C"}))
        except OSError as error:
            return Result(NOT_FOUND, "", str(error))

    return feed
