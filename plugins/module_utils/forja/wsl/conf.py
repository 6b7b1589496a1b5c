# SPDX-License-Identifier: Apache-2.0
"""Read and merge /etc/wsl.conf, which WSL reads when it starts the distribution.

Keys and comments that nobody asked about stay as they are, byte for byte (learn.microsoft.com, "Advanced settings configuration in WSL").
"""

import re
from typing import Dict, List, NamedTuple, Optional

Settings = Dict[str, Dict[str, str]]

_SECTION = re.compile(r"\s*\[([^]]*)\]\s*([#;].*)?$")
_ENTRY = re.compile(r"(\s*([^=#;\s][^=]*?)\s*=\s*)(.*?)(\s*#.*)?$")


class Entry(NamedTuple):
    """`line` counts from 0; `value` is without quotes and without the comment behind it."""

    line: int
    section: str
    key: str
    value: str


def entries(text: str) -> List[Entry]:
    """Parse the entries in their order. Names of sections and keys are compared in lower case."""
    found, section = [], ""
    for number, line in enumerate(text.splitlines()):
        heading, entry = _SECTION.match(line), _ENTRY.match(line)
        if heading:
            section = heading.group(1).strip().lower()
        elif entry:
            found.append(Entry(number, section, entry.group(2).lower(), entry.group(3).strip().strip('"')))
    return found


def plan(text: str, settings: Settings) -> List[str]:
    """Return what differs, one sentence a setting."""
    found = entries(text)
    steps = []
    for section, values in sorted(settings.items()):
        for key, value in sorted(values.items()):
            present = [entry.value for entry in found if (entry.section, entry.key) == (section.lower(), key.lower())]
            if not present:
                steps.append(f"add [{section}] {key}={value}")
            elif any(old.lower() != value.lower() for old in present):
                steps.append(f"set [{section}] {key}={value} (was {', '.join(present)})")
    return steps


def merge(text: str, settings: Settings) -> str:
    """Return the text with the settings; a section that exists gets its new keys at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    for section, values in settings.items():
        for key, value in values.items():
            same = [entry for entry in entries("\n".join(lines)) if (entry.section, entry.key) == (section.lower(), key.lower())]
            for entry in same:
                match = _ENTRY.match(lines[entry.line])
                if match and entry.value.lower() != value.lower():
                    lines[entry.line] = f"{match.group(1)}{value}{match.group(4) or ''}"
            if not same:
                end = _end(lines, section)
                if end is None:
                    lines += ([""] if lines and lines[-1].strip() else []) + [f"[{section}]", f"{key}={value}"]
                else:
                    lines.insert(end, f"{key}={value}")
    return newline.join(lines) + newline if lines else ""


def _end(lines: List[str], section: str) -> Optional[int]:
    """Return the line behind the last one of a section that is not blank, None where there is no such section."""
    end, inside = None, False
    for number, line in enumerate(lines):
        heading = _SECTION.match(line)
        if heading:
            inside = heading.group(1).strip().lower() == section.lower()
        if inside and line.strip():
            end = number + 1
    return end
