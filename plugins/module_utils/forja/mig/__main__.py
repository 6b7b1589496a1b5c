# SPDX-License-Identifier: Apache-2.0
"""`python3 -m forja.mig`: the MIG code without Ansible, for boot, for a shell and for other tools.

Exit codes: 0 the GPUs are as wanted; 1 they are not (assert, plan); 2 the request is wrong or cannot be on this hardware;
3 somebody uses what would go; 4 the change failed and everything was put back; 5 it failed and could not be put back;
6 done as far as possible, the rest needs a reboot; 7 NVML or the state folder cannot be used. After 2, 3, 4 and 7 nothing is changed.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, List, Optional

from .apply import BusyError, ChangeError
from .blockers import words
from .config.export import as_yaml, exported
from .config.selection import ConfigError
from .journal import Journal, JournalError
from .node import Node, Outcome, pictures
from .nvml.gateway import Gateway
from .nvml.reset import run
from .nvml.session import GatewayError, StoppedError
from .plan import PlanError

AS_WANTED, NOT_AS_WANTED, WRONG, BUSY, PUT_BACK, BROKEN, REBOOT, UNUSABLE = range(8)


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
                tell(f"{gateway.calls} NVML calls", sys.stderr)
            return code
    except (ConfigError, PlanError) as error:
        return fail(WRONG, error)
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


def started(gateway: Gateway, options: argparse.Namespace) -> Gateway:
    """NVML's start loads the driver. At boot that may fail at first, while the kernel is still looking for its devices."""
    seconds = getattr(options, "wait", 0)
    end, said = time.monotonic() + seconds, ""  # at boot the clock is often set meanwhile
    while True:
        try:
            return gateway.__enter__()
        except GatewayError as error:
            if time.monotonic() >= end:
                raise
            if str(error) != said:
                said = str(error)
                tell(f"{said}; trying again for {seconds:g} s", sys.stderr)
            time.sleep(min(2, seconds))


def parser() -> argparse.ArgumentParser:
    told = argparse.ArgumentParser(
        prog="python3 -m forja.mig",
        description="MIG that plans before it touches. Files are mig-parted's.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    told.add_argument("--calls", action="store_true", help="print how many NVML calls it took, on standard error")
    commands = told.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for name, text in (
        ("apply", "make the GPUs what the configuration says"),
        ("assert", "tell by the exit code whether they are; changes nothing"),
        ("plan", "print what apply would do; changes nothing"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "-f", "--file", help="a mig-parted file, or - for standard input; without one the label is built in, such as all-balanced"
        )
        command.add_argument("-c", "--config", metavar="LABEL", help="which of its configurations; may be left out when there is only one")
        command.add_argument("--json", action="store_true", help="print data instead of words")
        if name != "assert":
            command.add_argument("--reset", action="store_true", help="reset GPUs that need it; never one that somebody uses")
        if name == "apply":
            command.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for the driver, at boot")
    command = commands.add_parser("export", help="print the layout there is as a mig-parted file", description="print the layout there is")
    command.add_argument("-c", "--config", metavar="LABEL", default="current", help="its label (default: current)")
    command.add_argument("--json", action="store_true", help="JSON instead of YAML")
    return told


def read(path: Optional[str]) -> Optional[str]:
    if path is None:
        return None
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode("utf-8")  # whatever the locale is
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def stop(number: int, _frame: Any) -> None:
    """What systemd sends when a unit takes too long, or a terminal that is closed: what was begun is put back, undisturbed."""
    deaf()
    raise StoppedError(f"Stopped by {signal.Signals(number).name}")


def deaf() -> None:
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)


def apply(node: Node, _gateway: Gateway, source: Optional[str], options: argparse.Namespace) -> int:
    for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(one, stop)
    with Journal() as journal:
        outcome = node.settle(source, options.config, options.reset, journal, lambda words: tell(words, sys.stderr))
        deaf()  # it is done
    warn(outcome)
    if options.json:
        tell(json.dumps(data(outcome)))
    elif outcome.reboot:
        tell(f"Reboot required: {'; '.join(outcome.reboot)}.")
    else:
        tell(f"{outcome.label}: {'done' if outcome.changed else 'nothing to do'}")
    return REBOOT if outcome.reboot else AS_WANTED


def plan(node: Node, gateway: Gateway, source: Optional[str], options: argparse.Namespace) -> int:
    outcome = node.plan(source, options.config, options.reset, Journal().left())
    warn(outcome)
    in_the_way = node.blockers(outcome)
    if options.json:
        tell(json.dumps(dict(data(outcome), blockers=in_the_way)))
    else:
        before, after = pictures(gateway, outcome.plans)
        if outcome.changed:
            tell("\n".join(["now", before, "then", after, *outcome.words]))
        tell("\n".join(f"Reboot required: {reason}." for reason in outcome.reboot) or f"{len(outcome.words)} steps")
        for record in in_the_way:
            tell(f"In the way: {words(record)}.")
    return NOT_AS_WANTED if outcome.changed or outcome.reboot else AS_WANTED


def check(node: Node, _gateway: Gateway, source: Optional[str], options: argparse.Namespace) -> int:
    outcome = node.plan(source, options.config, False, {})
    warn(outcome)
    right = not (outcome.changed or outcome.reboot)
    if options.json:
        tell(json.dumps(dict(data(outcome), as_wanted=right)))
    else:
        tell(f"{outcome.label}: {'as wanted' if right else 'not as wanted: ' + '; '.join(outcome.words + list(outcome.reboot))}")
    return AS_WANTED if right else NOT_AS_WANTED


def export(_node: Node, gateway: Gateway, _source: Optional[str], options: argparse.Namespace) -> int:
    found = exported(gateway.gpus(), options.config)
    tell(json.dumps(found) if options.json else as_yaml(found).rstrip("\n"))
    return AS_WANTED


def data(outcome: Outcome) -> Any:
    return {
        "label": outcome.label,
        "changed": outcome.changed,
        "plan": outcome.data,
        "reboot_required": bool(outcome.reboot),
        "reboot_reasons": list(outcome.reboot),
        "warnings": list(outcome.warnings),
    }


def tell(text: str, stream: Any = None) -> None:
    """A reader who is gone changes nothing of what was done, nor of the exit code."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python fails at its end, flushing


def warn(outcome: Outcome) -> None:
    for warning in outcome.warnings:
        tell("warning: " + warning, sys.stderr)


def fail(code: int, error: object) -> int:
    tell(f"error: {error}", sys.stderr)
    return code


COMMANDS = {"apply": apply, "assert": check, "plan": plan, "export": export}

if __name__ == "__main__":
    sys.exit(main())
