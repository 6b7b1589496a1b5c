# SPDX-License-Identifier: Apache-2.0
"""Entries of apt's sources in both forms, one-line and deb822 (sources.list(5)): parse, compare by what they point to, remove. Pure."""

import re
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ..host.errors import ForjaError

# deb [arch=amd64 signed-by=/x] https://host/path suite component ...
ONE_LINE = re.compile(r"\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+([^#\n]*)")
# Of a one-line entry -> the field of deb822.
FIELDS = {"arch": "architectures", "signed-by": "signed-by", "trusted": "trusted", "allow-insecure": "allow-insecure"}
YES = ("yes", "true", "1", "on", "with", "enable")


class Entry(NamedTuple):
    """An enabled entry of the file `path`; lists as they are written, `fields` holds the other options in deb822's names."""

    path: str
    types: Tuple[str, ...]
    uris: Tuple[str, ...]
    suites: Tuple[str, ...]
    components: Tuple[str, ...]
    fields: Dict[str, str]

    @property
    def signed_by(self) -> str:
        """A path, an armored key, or empty."""
        return self.fields.get("signed-by", "")

    @property
    def insecure(self) -> bool:
        return any(self.fields.get(name, "").lower() in YES for name in ("trusted", "allow-insecure"))


def address(uri: str, architecture: str) -> str:
    """Reduce an address to what makes a difference: no scheme, login, default port or trailing slash; $(ARCH) is filled in."""
    rest = re.sub(r"^[a-z+]+://(?:[^/@]*@)?", "", uri.strip().lower()).replace("$(arch)", architecture)
    rest = re.sub(r"^([^/:]+):(?:80|443)(?=/|$)", r"\1", rest)
    return re.sub(r"/(?:\./|/)*", "/", rest + "/").rstrip("/")


def parse(path: str, text: str) -> List[Entry]:
    """Parse the enabled entries of a file; comments and disabled stanzas are none."""
    if path.endswith(".sources"):
        return [entry for entry in (_parse_stanza(path, stanza) for stanza in stanzas(text)) if entry]
    return [entry for entry in (_parse_line(path, line) for line in text.splitlines()) if entry]


def _parse_line(path: str, line: str) -> Optional[Entry]:
    found = ONE_LINE.match(line)
    if not found:
        return None
    kind, options, uri, rest = found.groups()
    pairs = [option.partition("=") for option in (options or "").split()]
    fields = {FIELDS.get(name.rstrip("+-").lower(), name.lower()): value.replace(",", " ") for name, _, value in pairs}
    words = rest.split()
    return Entry(path, (kind,), (uri,), tuple(words[:1]), tuple(words[1:]), fields)


def stanzas(text: str) -> List[str]:
    return re.split(r"(?<=\n)(?:[ \t]*\n)+", text)


def _parse_stanza(path: str, stanza: str) -> Optional[Entry]:
    fields: Dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            fields[name] = fields.get(name, "") + "\n" + ("" if line.strip() == "." else line.strip())
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    lists = [tuple(fields.get(key, "").split()) for key in ("types", "uris", "suites", "components")]
    if not lists[1] or fields.get("enabled", "yes").lower() not in YES:
        return None
    rest = {key: value.strip() for key, value in fields.items() if key not in ("types", "uris", "suites", "components")}
    return Entry(path, lists[0], lists[1], lists[2], lists[3], rest)


def points_to(entry: Entry, addresses: Set[str], architecture: str) -> Set[str]:
    return {address(uri, architecture) for uri in entry.uris} & addresses


def without(path: str, content: bytes, uris: List[str], architecture: str) -> Optional[bytes]:
    """Remove the entries of these repositories from a file; None when it holds no other entry."""
    addresses = {address(uri, architecture) for uri in uris}
    text = content.decode(errors="surrogateescape")
    deb822 = path.endswith(".sources")
    kept, entries, dropped = [], 0, 0
    for part in stanzas(text) if deb822 else text.splitlines(True):
        entry = _parse_stanza(path, part) if deb822 else _parse_line(path, part)
        found = points_to(entry, addresses, architecture) if entry else set()
        if entry and found and len(found) < len(entry.uris):
            raise ForjaError(
                f"{path} names this repository and others in one stanza; apt would find two keys for it. "
                f"Take {' and '.join(sorted(found))} out of its URIs, then run again. Nothing was changed."
            )
        if found:
            dropped += 1
            continue
        entries += bool(entry)
        kept.append(part)
    if not dropped:
        return content
    return ("\n" if deb822 else "").join(kept).encode(errors="surrogateescape") if entries else None
