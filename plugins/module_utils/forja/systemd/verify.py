# SPDX-License-Identifier: Apache-2.0
"""Asks systemd what it thinks of a drop-in before the file goes live: `systemd-analyze verify` in a scratch folder."""

import os
import re
import shutil
import tempfile
from typing import List, Optional, Sequence

from ..host.errors import ForjaError
from ..host.run import Run
from .paths import template_of

# Appended to the file: if systemd does not complain about this key, it has not read the file to its end, and its silence means nothing.
_CANARY = "\n[Unit]\nForjaCanary=yes\n"
# systemd takes these settings all the same, under a newer name or with a new default.
_HARMLESS = re.compile("please use|obsolete|deprecated|updating|will be removed", re.IGNORECASE)


def verify(run: Run, analyze: Optional[str], unit: str, path: str, text: str, fragment: Optional[str], user: bool,
           leaving: Sequence[str] = ()) -> List[str]:
    """Checks a drop-in that is to be written to `path`. Answers notes, raises ForjaError for a setting that systemd would ignore.

    The exit status says little: unknown keys leave it at 0, a missing manual page does not. What counts is whether systemd has
    something to say about our file, or refuses the whole unit with our file and not without it. `fragment` is the unit's own
    file; without one a stub stands in for it and only the words about our file count. `leaving` are drop-ins about to be removed.
    """
    if not analyze:
        return ["systemd-analyze is not installed: the settings were not checked"]
    scratch = os.path.realpath(tempfile.mkdtemp(prefix="forja-verify-"))
    try:
        return _verify(run, analyze, unit, path, text, fragment, user, leaving, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _verify(run: Run, analyze: str, unit: str, path: str, text: str, fragment: Optional[str], user: bool,
            leaving: Sequence[str], scratch: str) -> List[str]:
    # An old systemd-analyze cannot instantiate a template itself.
    instance = unit.replace("@.", "@forja.")
    draft = f"{scratch}/{template_of(instance) if instance != unit else unit}.d/{os.path.basename(path)}"
    os.mkdir(os.path.dirname(draft))
    for name in map(os.path.basename, leaving):
        _write(f"{os.path.dirname(draft)}/{name}", b"")  # empty, so that it hides the one that is still there
    installed = fragment is not None and os.path.isfile(fragment)
    _write(f"{scratch}/{instance}", _read(fragment) if fragment and installed else b"[Unit]\nDescription=stub\n")

    def lines(content: str) -> List[str]:
        _write(draft, (content + _CANARY).encode())
        argv = ["env", "XDG_RUNTIME_DIR=" + scratch, analyze] + (["--user"] if user else [])
        _, out, err = run(argv + ["--man=no", "verify", f"{scratch}/{instance}"])
        return list(dict.fromkeys((out + "\n" + err).split("\n")))

    words = lines(text)
    about = [line.replace(draft, path) for line in words if draft in line and "ForjaCanary" not in line]
    refused = [line for line in about if not _HARMLESS.search(line)]
    if refused:
        raise ForjaError("systemd refuses what {} is to say, nothing was changed:\n{}".format(path, "\n".join(refused)))
    if not any("ForjaCanary" in line for line in words):
        return [f"systemd-analyze did not check the settings: {' '.join(filter(None, words)) or 'it said nothing'}"]
    others = [line for line in words if line and draft not in line and instance in line]
    if others and installed:
        without = lines("")
        others = [line for line in others if line not in without]
        if any("Refusing" in line for line in others):
            raise ForjaError("systemd refuses {} with what {} is to say, nothing was changed:\n{}".format(unit, path, "\n".join(others)))
        about += others
    return ["systemd-analyze: " + line for line in about]


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
