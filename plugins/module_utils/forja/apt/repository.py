# SPDX-License-Identifier: Apache-2.0
"""A signed apt repository as two files, its key and its deb822 source, and the other entries that point to it.

Files are a mapping path -> content, None for a file that does not exist: plan() compares two of these.
"""

import glob
import hashlib
import re
from typing import Dict, List, NamedTuple, Optional

from ..host import atomic as atomic_file
from ..host.errors import ForjaError
from .openpgp import fingerprints
from .sources import Entry, address, parse, points_to, without

Files = Dict[str, Optional[bytes]]

LISTS = (".list", ".sources")


class Repository(NamedTuple):
    """A repository; `replaces` are other addresses of it, `accepted` the fingerprints of the keys that may sign it."""

    name: str
    uri: str
    suites: List[str]
    components: List[str]
    architecture: str
    replaces: List[str] = []
    accepted: List[str] = []

    @property
    def key(self) -> str:
        return f"/etc/apt/keyrings/{self.name}.asc"

    @property
    def source(self) -> str:
        return f"/etc/apt/sources.list.d/{self.name}.sources"


def gather(repository: Repository) -> Files:
    """Read the lists of apt's sources, and the keys which the entries of this repository name."""
    paths = ["/etc/apt/sources.list", repository.key, repository.source]
    paths += glob.glob("/etc/apt/sources.list.d/*.list") + glob.glob("/etc/apt/sources.list.d/*.sources")
    files = {path: atomic_file.read(path) for path in paths}
    keys = [entry.signed_by for entry in entries(files, repository) if entry.signed_by.startswith("/")]
    files.update({path: atomic_file.read(path) for path in keys})
    return files


def entries(files: Files, repository: Repository) -> List[Entry]:
    """Return the enabled entries that point to the repository, by its own address or by one that it replaces."""
    wanted = {address(uri, repository.architecture) for uri in [repository.uri] + repository.replaces}
    lists = {path: content.decode(errors="surrogateescape") for path, content in files.items() if content and path.endswith(LISTS)}
    found = [entry for path in sorted(lists) for entry in parse(path, lists[path])]
    return [entry for entry in found if points_to(entry, wanted, repository.architecture)]


def equivalent(files: Files, repository: Repository) -> Optional[Entry]:
    """Return an entry of somebody else that is as good as ours: the same repository, signed by an accepted key.

    Another role or Docker's own instructions may have written it; rewriting it in every run would make two roles alternate.
    """
    found = entries(files, repository)
    alone = [entry for entry in found if [other.path for other in found].count(entry.path) == 1]
    fitting = [entry for entry in alone if _fits(entry, files, repository)]
    return next((entry for entry in sorted(fitting, key=lambda entry: entry.path == repository.source)), None)


def _fits(entry: Entry, files: Files, repository: Repository) -> bool:
    def flat(suites: List[str]) -> List[str]:
        return sorted({"/" if suite in ("/", "./") else suite for suite in suites})

    weaker = repository.uri.startswith("https://") and not all(uri.startswith("https://") for uri in entry.uris)
    same = address(repository.uri, repository.architecture) == address(entry.uris[0], repository.architecture) and len(entry.uris) == 1
    architectures = entry.fields.get("architectures", "").split()
    return (
        same and not weaker and not entry.insecure and entry.types == ("deb",)
        and flat(list(entry.suites)) == flat(repository.suites) and sorted(entry.components) == sorted(repository.components)
        and (not architectures or repository.architecture in architectures)
        and _signed(entry, files, repository)
    )


def _signed(entry: Entry, files: Files, repository: Repository) -> bool:
    content = (files.get(entry.signed_by) if entry.signed_by.startswith("/") else entry.signed_by.encode()) or b""
    # apt reads an armored key under a name in .asc only, a binary one under any other.
    if content.lstrip().startswith(b"-----BEGIN PGP") != (entry.signed_by.endswith(".asc") or not entry.signed_by.startswith("/")):
        return False
    try:
        return set(fingerprints(content)) <= {normal_fingerprint(text) for text in repository.accepted}
    except ForjaError:
        return False


def check_key(content: bytes, accepted: List[str], sha256: str, origin: str) -> None:
    """Raise unless every key in the file has an accepted fingerprint, and the file has the checksum (empty: any)."""
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256.lower():
        raise ForjaError(
            f"The key from {origin} has the SHA-256 {digest}, expected is {sha256}. Nothing was changed. If the repository has a new key, "
            "check it and set its checksum and fingerprint."
        )
    try:
        found = sorted(set(fingerprints(content)))
    except ForjaError as error:
        raise ForjaError(f"The file from {origin} is not a key file that can be trusted: {error}. Nothing was changed.") from error
    if not content.lstrip().startswith(b"-----BEGIN PGP"):
        raise ForjaError(f"The key from {origin} is binary; apt expects an armored one (gpg --enarmor) under a name in .asc.")
    wanted = [normal_fingerprint(fingerprint) for fingerprint in accepted]
    if not set(found) <= set(wanted):
        raise ForjaError(
            f"The key from {origin} has the fingerprint {' and '.join(found)}, expected is {' or '.join(wanted)}. Nothing was changed."
        )


def normal_fingerprint(fingerprint: str) -> str:
    normal = re.sub(r"\s+", "", fingerprint).upper()
    if not re.match(r"[0-9A-F]{40}$", normal):
        raise ForjaError(f"{fingerprint!r} is not a fingerprint: 40 hexadecimal digits are expected, a short id proves nothing.")
    return normal


def render_source(repository: Repository) -> bytes:
    lines = ["# Managed by Forja: changes made here are lost.", "Types: deb", "URIs: " + repository.uri]
    lines.append("Suites: " + " ".join(repository.suites))
    if repository.components:
        lines.append("Components: " + " ".join(repository.components))
    lines += ["Architectures: " + repository.architecture, "Signed-By: " + repository.key]
    return ("\n".join(lines) + "\n").encode()


def desired(current: Files, repository: Repository, key: Optional[bytes]) -> Files:
    """Return the files with one entry for the repository: an equivalent one where there is one, else ours with this key."""
    adopted = equivalent(current, repository)
    uris = [repository.uri] + repository.replaces
    wanted = dict(current)
    for path, content in current.items():
        if path.endswith(LISTS) and content is not None and not (adopted and path == adopted.path):
            wanted[path] = without(path, content, uris, repository.architecture)
    if not adopted:
        wanted[repository.key], wanted[repository.source] = key, render_source(repository)
    return wanted


def plan(current: Files, wanted: Files) -> List[str]:
    """Return the files to write or remove, as sentences; in the order in which they are safe to change."""
    steps = []
    for path in changes(current, wanted):
        new = wanted[path]
        verb = "write" if current.get(path) is None else "change"
        steps.append("{} {}".format("remove" if new is None else verb, path))
    return steps


def changes(current: Files, wanted: Files) -> List[str]:
    return [path for path in sorted(wanted) if current.get(path) != wanted[path]]
