# SPDX-License-Identifier: Apache-2.0
"""The text of systemd unit files: read it, quote for it, write it.

Reading follows systemd's own reader (config_parse and extract_first_word in its sources, described in systemd.syntax(7)).
"""

import re
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ..host.errors import ForjaError

WHITESPACE = " \t\n\r"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # all but the tab; surrogates stand for bytes that are not UTF-8
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
_NEWLINE = re.compile("\r\n|[\n\r\0]")  # not str.splitlines(): that one also splits at U+2028 and others
_ESCAPE = re.compile(r"\\(?:([abfnrtvs\\\"'])|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2}))")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}


class Entry(NamedTuple):
    """One assignment. Section and key are empty for a line that systemd would complain about and ignore."""

    section: str
    key: str
    value: str


def parse(text: str) -> List[Entry]:
    """All assignments of a unit file in their order. Never fails: what systemd ignores comes back as an entry without a key."""
    entries, section = [], ""
    for line in _logical_lines(text):
        key, equals, value = line.partition("=")
        if line.startswith("["):
            section = line[1:-1] if line.endswith("]") else ""
            if not section:
                entries.append(Entry("", "", line))
        elif section and equals and key.strip(WHITESPACE) and not _NOT_UTF8.search(line):
            entries.append(Entry(section, key.strip(WHITESPACE), value.strip(WHITESPACE)))
        else:
            entries.append(Entry("", "", line))
    return entries


def render(header: str, entries: List[Entry]) -> str:
    """The text of a unit file: the header as a comment, then one block for each section in order of first appearance."""
    sections: Dict[str, List[str]] = {}
    for entry in entries:
        sections.setdefault(entry.section, []).append(f"{entry.key}={entry.value}\n")
    return f"# {header}\n" + "".join(f"\n[{name}]\n{''.join(lines)}" for name, lines in sections.items())


def entries_from(settings: Mapping[str, Any]) -> Tuple[List[Entry], FrozenSet[Tuple[str, str]]]:
    """Entries for section -> key -> text, number, boolean or list, and the (section, key) pairs that were given as booleans."""
    entries, booleans = [], set()
    for section, keys in settings.items():
        if not _NAME.match(str(section)):
            raise ForjaError(f"settings: {section!r} is no section name; write for example Service")
        if not isinstance(keys, dict):
            raise ForjaError(f"settings: the section {section} holds {keys!r}; write a mapping of keys to values")
        for key, values in keys.items():
            if not _NAME.match(str(key)):
                raise ForjaError(f"settings: {key!r} in [{section}] is no key; write for example RestartSec")
            for value in values if isinstance(values, list) else [values]:
                entries.append(Entry(section, key, _text(f"settings: {key}= in [{section}]", value)))
                if isinstance(value, bool):
                    booleans.add((section, key))
    return entries, frozenset(booleans)


def environment_entries(section: str, variables: Mapping[str, Any]) -> List[Entry]:
    """One quoted Environment= line for each variable; systemd then passes on exactly the given text."""
    entries = []
    for name, value in variables.items():
        label = f"environment: {name}"
        if not _VARIABLE.match(str(name)):
            raise ForjaError(f"environment: {name!r} is no variable name; use letters, digits and _, not first a digit")
        if isinstance(value, bool):
            raise ForjaError(f"{label} is a YAML boolean and programs differ in how they spell one; quote it, for example \"1\" or "
                                "\"true\""
                                )
        text = value if isinstance(value, str) else _text(label, value)
        _refuse_control(label, text)
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")  # $ has no meaning in Environment=
        entries.append(Entry(section, "Environment", f'"{name}={quoted}"'))
    return entries


def quote(word: str) -> str:
    """Return a word, such as a path, as it stands in a list of words: quoted where needed, with specifiers escaped."""
    _refuse_control(repr(word), word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.match(r"[A-Za-z0-9_/.:@%+,=-]+\Z", escaped) else f'"{escaped}"'


def words(value: str) -> List[str]:
    """Split and unquote as systemd does for commands and word lists; ForjaError if systemd would refuse the quoting."""
    return list(_words(value))


def assignments(value: str) -> Dict[str, str]:
    """The variables that one Environment= line sets, without what systemd would ignore. A doubled % stays doubled."""
    result: Dict[str, str] = {}
    try:
        for word in _words(value):
            name, equals, text = word.partition("=")
            if equals and _VARIABLE.match(name) and not _NOT_UTF8.search(text):
                result[name] = text
    except ForjaError:
        pass  # systemd, too, keeps the words before the bad one
    return result


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, with continuations joined: the backslash becomes a space, comments in between are skipped."""
    held = ""
    for raw in _NEWLINE.split(text[1:] if text.startswith("\ufeff") else text):
        line = raw.lstrip(WHITESPACE)
        if line.startswith(("#", ";")):
            continue
        held += line
        if (len(held) - len(held.rstrip("\\"))) % 2:
            held = held[:-1] + " "
            continue
        if held.strip(WHITESPACE):
            yield held.strip(WHITESPACE)
        held = ""
    if held.strip(WHITESPACE):
        yield held.strip(WHITESPACE)


def _words(value: str) -> Iterator[str]:
    word: Optional[bytes] = None
    quote, at = "", 0
    while at < len(value):
        char, step = value[at], 1
        if char == "\\":
            match = _ESCAPE.match(value, at)
            if not match:
                raise ForjaError(f"unknown escape in {value}")
            word = (word or b"") + _unescape(match)
            step = len(match.group())
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, word = char, word or b""
        elif not quote and char in WHITESPACE:
            if word is not None:
                yield word.decode("utf-8", "surrogateescape")
            word = None
        else:
            word = (word or b"") + char.encode("utf-8", "surrogateescape")
        at += step
    if quote:
        raise ForjaError(f"unbalanced quotes in {value}")
    if word is not None:
        yield word.decode("utf-8", "surrogateescape")


def _unescape(match: "re.Match[str]") -> bytes:
    letter, byte, short, long, octal = match.groups()
    if letter:
        return _LETTERS.get(letter, letter).encode()
    number = int(byte or short or long or octal, 8 if octal else 16)
    if number == 0 or number > 0x10FFFF:
        raise ForjaError(f"{match.group()} is no character")
    return bytes([number]) if byte or octal else chr(number).encode("utf-8", "surrogatepass")


def _text(label: str, value: Any) -> str:
    if value is None:
        raise ForjaError(f"{label} has no value; give one, or '' to reset it as in systemd")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (str, int, float)):
        raise ForjaError(f"{label} is {value!r}; give a text, a number, a boolean or a list of them")
    text = str(value).strip(WHITESPACE)  # as systemd strips it
    _refuse_control(label, text)
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise ForjaError(f"{label} ends in a backslash, which would continue the line; write \\\\ for one")
    return text


def _refuse_control(label: str, text: str) -> None:
    bad = _CONTROL.search(text)
    if bad:
        raise ForjaError(f"{label} holds {bad.group()!r}: no control characters and only UTF-8, a value is one line")
