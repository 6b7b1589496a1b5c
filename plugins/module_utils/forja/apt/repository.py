# SPDX-License-Identifier: Apache-2.0
"""A signed apt repository as two files, its key and its deb822 source, and the older entries that stand in their way.

Files are a mapping path -> content, None for a file that is not there: plan() compares two of these.
"""

import glob
import hashlib
import re
from typing import Dict, List, NamedTuple, Optional, Set

from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from .openpgp import fingerprints

Files = Dict[str, Optional[bytes]]

# deb [arch=amd64 signed-by=/x] https://host/path suite component ...
ONE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)\s")


class Repository(NamedTuple):
    name: str
    uri: str
    suites: List[str]
    components: List[str]
    architecture: str

    @property
    def key(self) -> str:
        return f"/etc/apt/keyrings/{self.name}.asc"

    @property
    def source(self) -> str:
        return f"/etc/apt/sources.list.d/{self.name}.sources"


def gather(repository: Repository) -> Files:
    paths = ["/etc/apt/sources.list", repository.key, repository.source]
    paths += glob.glob("/etc/apt/sources.list.d/*.list") + glob.glob("/etc/apt/sources.list.d/*.sources")
    return {path: atomic_file.read(path) for path in paths}


def check_key(content: bytes, fingerprint: str, sha256: str, origin: str) -> None:
    """Raises unless the file holds the one key with this fingerprint, and is the one with this checksum (empty: any)."""
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256.lower():
        raise ForjaError(
            f"The key from {origin} has the SHA-256 {digest}, wanted is {sha256}. Nothing was changed. If the repository has a new key, "
            "check it and give its checksum and fingerprint."
        )
    try:
        found = sorted(set(fingerprints(content)))
    except ForjaError as error:
        raise ForjaError(f"The file from {origin} is no key that can be trusted: {error}. Nothing was changed.") from error
    if not content.lstrip().startswith(b"-----BEGIN PGP"):
        raise ForjaError(f"The key from {origin} is binary; apt wants it armored (gpg --enarmor) under a name in .asc.")
    wanted = normal_fingerprint(fingerprint)
    if found != [wanted]:
        raise ForjaError(
            f"The key from {origin} has the fingerprint {' and '.join(found)}, wanted is {wanted}. Nothing was changed."
        )


def normal_fingerprint(fingerprint: str) -> str:
    normal = re.sub(r"\s+", "", fingerprint).upper()
    if not re.match(r"[0-9A-F]{40}$", normal):
        raise ForjaError(f"{fingerprint!r} is no fingerprint: 40 hexadecimal digits are wanted, a short id proves nothing.")
    return normal


def render_source(repository: Repository) -> bytes:
    lines = ["# Managed by Forja: changes made here are lost.", "Types: deb", "URIs: " + repository.uri]
    lines.append("Suites: " + " ".join(repository.suites))
    if repository.components:
        lines.append("Components: " + " ".join(repository.components))
    lines += ["Architectures: " + repository.architecture, "Signed-By: " + repository.key]
    return ("\n".join(lines) + "\n").encode()


def _address(uri: str) -> str:
    """The address without what makes no difference."""
    return re.sub(r"^https?://", "", uri.strip()).rstrip("/").lower()


def without(path: str, content: bytes, uris: List[str]) -> Optional[bytes]:
    """A file of sources without the entries of these repositories; None when it holds no other entry."""
    ours = {_address(uri) for uri in uris}
    text = content.decode(errors="surrogateescape")
    return _without_stanzas(path, text, ours) if path.endswith(".sources") else _without_lines(text, ours)


def _without_lines(text: str, ours: Set[str]) -> Optional[bytes]:
    kept, entries, dropped = [], 0, 0
    for line in text.splitlines(True):
        entry = ONE_LINE.match(line)
        if entry and _address(entry.group(1)) in ours:
            dropped += 1
            continue
        entries += bool(entry)
        kept.append(line)
    if not entries and dropped:
        return None
    return "".join(kept).encode(errors="surrogateescape")


def _without_stanzas(path: str, text: str, ours: Set[str]) -> Optional[bytes]:
    kept, entries, dropped = [], 0, 0
    for stanza in re.split(r"(?<=\n)(?:[ \t]*\n)+", text):
        named = re.search(r"^URIs:((?:.*)(?:\n[ \t]+.*)*)", stanza, re.MULTILINE | re.IGNORECASE)
        uris = {_address(uri) for uri in named.group(1).split()} if named else set()
        if uris and uris <= ours:
            dropped += 1
            continue
        if uris & ours:
            raise ForjaError(
                f"{path} names this repository and others in one stanza; apt would find two keys for it. "
                f"Take {' and '.join(sorted(uris & ours))} out of its URIs, then run again. Nothing was changed."
            )
        entries += bool(uris)
        kept.append(stanza)
    if not dropped:
        return text.encode(errors="surrogateescape")
    return "\n".join(kept).encode(errors="surrogateescape") if entries else None


def desired(current: Files, repository: Repository, key: bytes, replaces: List[str]) -> Files:
    """The files with the repository in place; `current` also holds the other files of sources."""
    wanted: Files = {}
    for path, content in current.items():
        other = path not in (repository.key, repository.source) and content is not None
        wanted[path] = without(path, content or b"", [repository.uri] + replaces) if other else content
    wanted[repository.key] = key
    wanted[repository.source] = render_source(repository)
    return wanted


def plan(current: Files, wanted: Files) -> List[str]:
    """The files to write or remove, as sentences; in the order in which they are safe to change."""
    steps = []
    for path in changes(current, wanted):
        new = wanted[path]
        verb = "write" if current.get(path) is None else "change"
        steps.append("{} {}".format("remove" if new is None else verb, path))
    return steps


def changes(current: Files, wanted: Files) -> List[str]:
    return [path for path in sorted(wanted) if current.get(path) != wanted[path]]
