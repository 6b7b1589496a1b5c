# SPDX-License-Identifier: Apache-2.0
"""Interpreters of other versions on this machine, and virtual environments of a hashed lock made with them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HERE = REPO / "tests/compat"
VENVS = REPO / ".venv-compat"


def find(*versions: str) -> str | None:
    """Find the first interpreter of one of these versions, such as "3.6"; FORJA_PYTHON36 and its like name one."""
    found = ((version, probe(python)) for version in versions for python in _places(version) if python)
    # A shim of pyenv may not run, or be of another version.
    return next((executable for wanted, (version, executable) in found if version == wanted), None)


def _places(version: str) -> Iterator[str]:
    """List where an interpreter of this version may be: the environment, PATH, pyenv's folder."""
    yield os.environ.get(f"FORJA_PYTHON{version.replace('.', '')}", "")
    yield shutil.which(f"python{version}") or ""
    yield from map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"), reverse=True))


def probe(python: str) -> tuple[str, str]:
    """Return version and true path of an interpreter; both empty if it does not run."""
    question = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
    try:
        output = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "", ""
    version, executable = output.splitlines()
    return version, executable


def environment(name: str, python: str) -> Path:
    """Create the virtual environment of tests/compat/<name>/requirements.lock if it is missing or outdated; return its bin folder."""
    lock, venv = HERE / name / "requirements.lock", VENVS / name
    stamp, content = venv / "lock.sha256", hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != content:
        subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "--requirement", str(lock)], check=True)
        stamp.write_text(content)
    return venv / "bin"
