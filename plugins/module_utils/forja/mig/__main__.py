# SPDX-License-Identifier: Apache-2.0
"""`python3 -m forja.mig`: the MIG code without Ansible, for boot, for a shell and for other tools.

Exit codes: 0 the GPUs are as wanted; 1 they are not (assert, plan); 2 the request is not valid or does not fit on this hardware;
3 a process uses what would be removed; 4 the change failed and everything was put back; 5 it failed and could not be put back;
6 done as far as possible, the rest needs a reboot; 7 NVML, the state folder or, for export, the output cannot be used; 8 a defect
of this program. After 2, 3, 4 and 7 nothing is changed.
"""

import argparse
import contextlib
import json
import math
import os
import re
import signal
import sys
import time
from typing import Any, Callable, List, Optional, TypeVar

from ..host.errors import ForjaError
from .apply import BusyError, ChangeError
from .blockers import describe
from .config.document import ConfigError
from .config.export import as_yaml, exported
from .journal import Journal, JournalError
from .node import Node, Outcome, pictures
from .nvml.gateway import Gateway
from .nvml.reset import run
from .nvml.session import INVALID_ARGUMENT, NOT_FOUND, GatewayError, StoppedError

AS_WANTED, NOT_AS_WANTED, WRONG, BUSY, PUT_BACK, BROKEN, REBOOT, UNUSABLE, DEFECT = range(9)
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ATTEMPTS = 5  # of reading a node without the lock, which only root may read

_T = TypeVar("_T")


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    try:
        source = None if options.command == "export" else read(options.file)
        import pynvml

        with contextlib.ExitStack() as stack:
            gateway = started(Gateway(pynvml), options)
            stack.push(gateway)
            code = COMMANDS[options.command](Node(gateway, run), gateway, source, options)
            if options.calls:
                emit(f"{gateway.calls} NVML calls", sys.stderr)
            return code
    except BusyError as error:
        return fail(BUSY, error)
    except ChangeError as error:
        return fail(PUT_BACK if error.restored else BROKEN, error)
    except StoppedError as error:
        return fail(PUT_BACK, f"{error} before anything was changed")
    except ImportError as error:
        return fail(UNUSABLE, f"{error}; install python3-pynvml, or nvidia-ml-py into this Python ({sys.executable})")
    except (GatewayError, JournalError, OSError) as error:
        return fail(UNUSABLE, error)
    except ForjaError as error:
        return fail(WRONG, error)
    except Exception as error:  # else Python ends with 1, which says that the GPUs are not as wanted
        import traceback

        emit(traceback.format_exc(), sys.stderr)
        return fail(DEFECT, f"this is a defect of forja.mig: {error!r}")


def started(gateway: Gateway, options: argparse.Namespace) -> Gateway:
    """Start NVML, which loads the driver. At boot that may fail at first, while the kernel is still looking for its devices."""
    seconds = getattr(options, "wait", 0)
    end, reported = time.monotonic() + seconds, ""  # at boot the clock is often set meanwhile
    while True:
        try:
            return gateway.__enter__()
        except GatewayError as error:
            if time.monotonic() >= end:
                raise
            if str(error) != reported:
                reported = str(error)
                emit(f"{reported}; trying again for {seconds:g} s", sys.stderr)
            time.sleep(min(2, seconds))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python3 -m forja.mig",
        description="MIG that plans before it touches. Files are mig-parted's.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--calls", action="store_true", help="print how many NVML calls it took, on standard error")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for name, text in (
        ("apply", "make the GPUs what the configuration says"),
        ("assert", "return by the exit code whether they are; changes nothing"),
        ("plan", "print what apply would do; changes nothing"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "-f", "--file", help="a mig-parted file, or - for standard input; without one the label is built in, such as all-balanced"
        )
        command.add_argument("-c", "--config", metavar="LABEL", help="which of its configurations; not needed when there is only one")
        command.add_argument("--json", action="store_true", help="print JSON instead of sentences")
        if name != "assert":
            command.add_argument("--reset", action="store_true", help="reset GPUs that need it; never one in use")
        if name == "apply":
            command.add_argument("--wait", type=seconds_from, default=0, metavar="SECONDS", help="how long to wait for the driver, at boot")
    text = "print the present layout as a mig-parted file"
    command = commands.add_parser("export", help=text, description=text)
    command.add_argument("-c", "--config", metavar="LABEL", default="current", help="its label (default: current)")
    command.add_argument("--json", action="store_true", help="JSON instead of YAML")
    return top


def seconds_from(text: str) -> float:
    """Parse a time to wait. NaN and infinity would wait forever."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; use a number of seconds such as 60")
    return value


def read(path: Optional[str]) -> Optional[str]:
    if path is None:
        return None
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode("utf-8")  # whatever the locale is
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def stop(number: int, _frame: Any) -> None:
    """Handle what systemd sends when a unit takes too long, or a terminal that closes: put back what was begun, undisturbed."""
    ignore_signals()
    raise StoppedError(f"Stopped by {signal.Signals(number).name}")


def ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def steady(work: Callable[[Journal], _T]) -> _T:
    """Read the node while no change is under way: under the shared lock, or, for users who may not read it, again where it changed."""
    for attempt in range(_ATTEMPTS):
        try:
            with Journal().reading() as journal:
                return work(journal)
        except GatewayError as error:
            if error.code not in (INVALID_ARGUMENT, NOT_FOUND) or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


def apply(node: Node, _gateway: Gateway, source: Optional[str], options: argparse.Namespace) -> int:
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores them
            signal.signal(number, stop)
    with Journal() as journal:
        outcome = node.apply(source, options.config, options.reset, journal, lambda message: emit(message, sys.stderr))
        ignore_signals()  # it is done
    warn(outcome)
    if options.json:
        emit(json.dumps(data(outcome)))
    elif outcome.reboot:
        emit(f"Reboot required: {'; '.join(outcome.reboot)}.")
    else:
        emit(f"{outcome.label}: {'done' if outcome.changed else 'nothing to do'}")
    return REBOOT if outcome.reboot else AS_WANTED


def plan(node: Node, gateway: Gateway, source: Optional[str], options: argparse.Namespace) -> int:
    def work(journal: Journal) -> Any:
        outcome = node.plan(source, options.config, options.reset, journal.entries())
        return outcome, node.blockers(outcome), None if options.json else pictures(gateway, outcome.plans)

    outcome, in_the_way, drawn = steady(work)
    warn(outcome)
    if options.json:
        emit(json.dumps(dict(data(outcome), blockers=in_the_way)))
    else:
        if outcome.changed:
            before, after = drawn
            emit("\n".join(["now", before, "then", after, *outcome.steps]))
        emit("\n".join(f"Reboot required: {reason}." for reason in outcome.reboot) or f"{len(outcome.steps)} steps")
        for record in in_the_way:
            emit(f"Blocked by {describe(record)}.")
    return NOT_AS_WANTED if outcome.changed or outcome.reboot else AS_WANTED


def check(node: Node, _gateway: Gateway, source: Optional[str], options: argparse.Namespace) -> int:
    outcome = steady(lambda _journal: node.plan(source, options.config, False, {}))
    warn(outcome)
    right = not (outcome.changed or outcome.reboot)
    if options.json:
        emit(json.dumps(dict(data(outcome), as_wanted=right)))
    else:
        emit(f"{outcome.label}: {'as wanted' if right else 'not as wanted: ' + '; '.join(outcome.steps + list(outcome.reboot))}")
    return AS_WANTED if right else NOT_AS_WANTED


def export(_node: Node, gateway: Gateway, _source: Optional[str], options: argparse.Namespace) -> int:
    found = exported(steady(lambda _journal: gateway.gpus()), options.config)
    return AS_WANTED if emit(json.dumps(found) if options.json else as_yaml(found).rstrip("\n")) else UNUSABLE


def data(outcome: Outcome) -> Any:
    return {
        "label": outcome.label,
        "changed": outcome.changed,
        "plan": outcome.data,
        "reboot_required": bool(outcome.reboot),
        "reboot_reasons": list(outcome.reboot),
        "warnings": list(outcome.warnings),
    }


def emit(text: str, stream: Any = None) -> bool:
    """Print a line; return False where it cannot be written. That changes neither what was done nor the exit code.

    Control characters of names and labels do not reach the terminal; what the stream cannot encode is escaped.
    """
    stream = stream or sys.stdout
    safe = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(safe.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python fails at its end, flushing
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            return True
        if stream is not sys.stderr:
            emit(f"warning: standard output cannot be written: {error.strerror}", sys.stderr)
        return False
    return True


def warn(outcome: Outcome) -> None:
    for warning in outcome.warnings:
        emit("warning: " + warning, sys.stderr)


def fail(code: int, error: object) -> int:
    emit(f"error: {error}", sys.stderr)
    return code


COMMANDS = {"apply": apply, "assert": check, "plan": plan, "export": export}

if __name__ == "__main__":
    sys.exit(main())
