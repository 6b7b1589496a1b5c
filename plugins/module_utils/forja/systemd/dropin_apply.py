# SPDX-License-Identifier: Apache-2.0
"""Does the steps that dropin.plan() found, so that they can be taken back."""

import os
import tempfile
from typing import Callable, Dict, List, NamedTuple, Optional

from ..host.errors import ForjaError
from . import pending as dropin_debt
from .dropin import MODE, Found, Step, Want, read
from .manager import Manager
from .paths import Place


class Host(NamedTuple):
    """What touches the host on our behalf."""

    place: Place
    manager: Manager
    replace: Callable[[str, str], None]  # moves a temporary file over another
    own: Callable[[str, int], None]      # gives a path its mode, its owner and its SELinux context


def apply(host: Host, goal: Want, found: Found, steps: List[Step]) -> None:
    """Does the steps. If systemd or the unit refuses, the previous files come back, the unit runs again, and ForjaError says why."""
    before: Dict[str, Optional[str]] = dict({goal.path: None}, **found.files)
    before.update(found.undone or {})
    restarts = [step.target for step in steps if step.action == "restart"]
    reloads = any(step.action == "reload" for step in steps)
    done, doing = "nothing", "prepare"
    try:
        if reloads:
            dropin_debt.remember(host.place, goal.unit, goal.name, before)
        for step in steps:
            doing = step.text
            _do(host, goal, step)
        if reloads:
            done = "files"
            host.manager.systemctl("daemon-reload")
        if restarts:
            done = "reload"
            host.manager.restart(restarts)
    except (OSError, ForjaError) as error:
        back = _take_back(host, goal, found, before, reloads and done != "nothing", restarts if done == "reload" else [])
        said = f"could not {doing}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise ForjaError(f"{said}\n{back}") from error
    dropin_debt.settle(host.place, goal.unit, goal.name)


def _do(host: Host, goal: Want, step: Step) -> None:
    if step.action == "mkdir":
        os.makedirs(step.target, 0o755, exist_ok=True)
        host.own(step.target, 0o755)
    elif step.action == "write":
        _write(host, step.target, goal.text)
    elif step.action == "own":
        host.own(step.target, MODE)
    elif step.action == "remove":
        os.unlink(step.target)
    elif step.action == "rmdir" and not os.path.islink(step.target):
        os.rmdir(step.target)


def _write(host: Host, path: str, text: str) -> None:
    folder, name = os.path.split(path)
    handle, draft = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, MODE)
        host.replace(draft, path)
        host.own(path, MODE)
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _take_back(host: Host, goal: Want, found: Found, before: Dict[str, Optional[str]], reload: bool, restarts: List[str]) -> str:
    """Puts the previous files back and gets the units running that our restart stopped. Answers how that went."""
    try:
        for path, text in before.items():
            if text is None:
                if os.path.exists(path):
                    os.unlink(path)
            elif not os.path.exists(path) or read(path) != text:
                os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
                _write(host, path, text)
        folder = os.path.dirname(goal.path)
        if found.folder == "absent" and os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)
        if reload:
            host.manager.systemctl("daemon-reload")
        if restarts:
            host.manager.start_again(restarts)
    except (OSError, ForjaError) as error:
        return f"Taking the change back failed as well: {error}"
    dropin_debt.settle(host.place, goal.unit, goal.name)
    return "The previous settings are back{}.".format("; started with them: " + ", ".join(restarts) if restarts else "")
