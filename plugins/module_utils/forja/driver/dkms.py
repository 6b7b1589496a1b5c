# SPDX-License-Identifier: Apache-2.0
"""Kernel modules that DKMS builds: which kernels lack theirs, and building them."""

import re
from typing import Dict, List, NamedTuple

from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Run

TREE = "/var/lib/dkms"
# What tells in a build's log why it failed; the commands around it are pages long.
_TELLING = re.compile(r"\berror:|\*\*\*|^#.*exit code")
LOG_LINES = 10


class Source(NamedTuple):
    """A module that DKMS knows, in its newest version, and the kernels for which that version is installed."""

    name: str
    version: str
    installed: List[str]


def gather(files: HostFiles, pattern: str) -> List[Source]:
    """DKMS keeps TREE/NAME/VERSION for what it knows, and TREE/NAME/kernel-RELEASE-ARCH -> VERSION/... for what is installed."""
    found = []
    for name in files.names(TREE):
        if not re.match(pattern + "$", name):
            continue
        entries = files.names(f"{TREE}/{name}")
        versions = [entry for entry in entries if re.match(r"\d", entry)]
        # A removal that was cut off leaves the folder of a version, without its source.
        versions = [one for one in versions if files.exists(f"{TREE}/{name}/{one}/source")] or versions
        if not versions:
            continue
        newest = sorted(versions, key=_numbers)[-1]
        links = {entry[7:]: files.link(f"{TREE}/{name}/{entry}") or "" for entry in entries if entry.startswith("kernel-")}
        found.append(Source(name, newest, [key.rsplit("-", 1)[0] for key, target in links.items() if target.split("/")[0] == newest]))
    return found


def plan(sources: List[Source], kernels: List[str]) -> Dict[str, List[Source]]:
    """What to build, by kernel. A kernel wants every module that DKMS knows under the pattern."""
    todo = {kernel: [source for source in sources if kernel not in source.installed] for kernel in kernels}
    return {kernel: missing for kernel, missing in todo.items() if missing}


def steps(todo: Dict[str, List[Source]]) -> List[str]:
    return [f"build {source.name} {source.version} for {kernel}" for kernel in sorted(todo) for source in todo[kernel]]


def apply(run: Run, files: HostFiles, todo: Dict[str, List[Source]]) -> None:
    for kernel in sorted(todo):
        for source in todo[kernel]:
            rc, out, err = run(["dkms", "install", "-m", source.name, "-v", source.version, "-k", kernel])
            if rc != 0:
                told = errors(files, source) or (out + err).strip().splitlines()[-LOG_LINES:]
                log = "\n".join(told)
                raise ForjaError(f"DKMS cannot build {source.name} {source.version} for kernel {kernel}:\n{log}")


def errors(files: HostFiles, source: Source) -> List[str]:
    """What the log of the last build says of its failure; empty where there is no such log."""
    log = files.text(f"{TREE}/{source.name}/{source.version}/build/make.log", 1 << 24) or ""
    return [line[:240] for line in log.splitlines() if _TELLING.search(line) and len(line) < 2000][:LOG_LINES]


def _numbers(version: str) -> List[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
