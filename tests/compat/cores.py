# SPDX-License-Identifier: Apache-2.0
"""The installed collection with each ansible-core that README.md names: modules, action plugins, the summary, a role's validation.

The collection is built and installed once, by the project's own ansible-galaxy. Then collection/play.yml runs with each ansible-core
from a folder that knows nothing of the checkout. The play changes nothing on this machine but files below that folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compat import pythons
from tests.compat.pythons import HERE, REPO

BIN = Path(sys.executable).parent
# The folder of the lock, and the Pythons that this ansible-core runs on; 2.19 is the project's own.
CORES = {"core-2.16": ("3.12", "3.11", "3.10"), "core-2.21": ("3.13", "3.12")}


def install_collection(site: Path) -> None:
    """Build the collection of this checkout and install it below a folder, without its dependencies."""
    galaxy = [str(BIN / "ansible-galaxy"), "collection"]
    subprocess.run([*galaxy, "build", "--output-path", str(site)], cwd=REPO, check=True, capture_output=True)
    tarball = str(next(site.glob("forja-gpu-*.tar.gz")))
    subprocess.run([*galaxy, "install", tarball, "-p", "collections", "--no-deps", "--offline"], cwd=site, check=True, capture_output=True)


def missing(output: str) -> list[str]:
    """Name what the output of the play lacks."""
    tasks, _, rest = output.partition("PLAY RECAP")
    wanted = {
        "a role's validation that refuses a misspelt variable": "TASK [forja.gpu.docker :" in tasks and "docker_usres" in tasks,
        "the recap of a play without a failure": "failed=0" in rest,
        "the summary after the recap": "it works" in rest,
    }
    return [what for what, found in wanted.items() if not found]


def run(name: str, programs: Path, site: Path) -> int:
    """Run the play with one ansible-core."""
    shutil.copytree(HERE / "collection", site, dirs_exist_ok=True)
    # No setting of the user or of this checkout reaches the play.
    environment = {"HOME": str(site), "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
    command = [str(programs / "ansible-playbook"), "play.yml", "--extra-vars", f"folder={site}/{name}"]
    result = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=False)
    lacks = [] if result.returncode else missing(result.stdout)
    if result.returncode or lacks:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
    print(f"compat: the collection with {name} {'failed' if result.returncode else f'lacks {lacks}' if lacks else 'passed'}", flush=True)
    return 1 if lacks else result.returncode


def main() -> int:
    programs = {"core-2.19": BIN}
    for name, versions in CORES.items():
        python = pythons.find(*versions)
        if python is None:
            print(f"compat: skipped, ansible-{name} needs one of Python {', '.join(versions)} and there is none here.")
        else:
            programs[name] = pythons.environment(name, python)
    with tempfile.TemporaryDirectory(prefix="forja-compat-") as folder:
        install_collection(Path(folder))
        return max(run(name, place, Path(folder)) for name, place in sorted(programs.items()))
