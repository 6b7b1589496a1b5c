# SPDX-License-Identifier: Apache-2.0
"""Reading, quoting, writing and comparing the text of systemd unit files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.systemd.semantics import meaning
from plugins.module_utils.forja.systemd.unit_file import (
    Entry,
    assignments,
    entries_from,
    environment_entries,
    parse,
    render,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Service]\nNice=5\n", [("Service", "Nice", "5")]),
        ("  [Service]  \n  Nice  =  5  \n", [("Service", "Nice", "5")]),
        ("[Service]\r\nNice=5\r\n", [("Service", "Nice", "5")]),
        ("\ufeff[Service]\nNice=5", [("Service", "Nice", "5")]),
        ("# a\n; b\n[Service]\n # c\nNice=5 # no comment\n", [("Service", "Nice", "5 # no comment")]),
        ("[A]\nX=a\n[B]\nY=b\n[A]\nX=c\n", [("A", "X", "a"), ("B", "Y", "b"), ("A", "X", "c")]),
        ("[Service]\nExecStart=a \\\n  b\n", [("Service", "ExecStart", "a  b")]),
        ("[A]\nX=a \\\n# comment\n  b \\\n; comment\n\nY=1\n", [("A", "X", "a  b"), ("A", "Y", "1")]),
        ("[Service]\nExecStart=a\\\\\nNice=1\n", [("Service", "ExecStart", "a\\\\"), ("Service", "Nice", "1")]),
        ("[Service]\nExecStart=a \\", [("Service", "ExecStart", "a")]),
        ("[Service]\nExecStart=\n", [("Service", "ExecStart", "")]),
        ("[Service]\nEnvironment=A=b=c\n", [("Service", "Environment", "A=b=c")]),
        ("[Service]\nEnvironment=A=\u2028b\u0085c\n", [("Service", "Environment", "A=\u2028b\u0085c")]),
        ("[Service]\nnonsense\n=5\n", [("", "", "nonsense"), ("", "", "=5")]),
        ("Nice=5\n", [("", "", "Nice=5")]),
        ("[Service\nNice=5\n", [("", "", "[Service"), ("", "", "Nice=5")]),
        ("[Service]\nNice=\udcff\n", [("", "", "Nice=\udcff")]),
        ("", []),
    ],
)
def test_parse(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert parse(text) == [Entry(*entry) for entry in expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b\tc", ["a", "b", "c"]),
        ('"a b" c', ["a b", "c"]),
        ("'a \"b\"' c", ['a "b"', "c"]),
        ("a'b c'd", ["ab cd"]),
        ('""', [""]),
        (r"a\x20b \u00e9 \U0001f600 \101 \s\t", ["a b", "é", "😀", "A", " \t"]),
        (r"\xc3\xa9", ["é"]),
        (r'"a\"b\\"', ['a"b\\']),
        ("", []),
    ],
)
def test_words(value: str, expected: list[str]) -> None:
    assert words(value) == expected


@pytest.mark.parametrize("value", ['"a', "a'", "a\\", r"\q", r"\x0", r"\x00", r"\U00110000"])
def test_words_refuses_what_systemd_refuses(value: str) -> None:
    with pytest.raises(ForjaError):
        words(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[Service]\nNice=5\nType=simple\n", "# x\n[Service]\nType=simple\n\n[Service]\nNice = 5\n"),
        ("[Service]\nEnvironment=A=1 B=2\n", "[Service]\nEnvironment='B=2'\nEnvironment=\"A=1\"\n"),
        ("[Service]\nEnvironment=A=1\nEnvironment=A=2\n", "[Service]\nEnvironment=A=2\n"),
        ("[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\n", "[Service]\nEnvironment=\nEnvironment=B=2\n"),
        ("[Service]\nExecStart=/bin/a 'b c'\n", '[Service]\nExecStart=/bin/a \\\n   "b c"\n'),
        ("[Service]\nExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\n", "[Service]\nExecStart=\nExecStart=/bin/b\n"),
        ("[Unit]\nAfter=a\nAfter=\n", "[Unit]\nAfter='a'\n"),
        ("[Unit]\nConditionHost=a\nConditionUser=\n", "[Unit]\nConditionUser=\n"),
    ],
)
def test_texts_with_one_meaning(one: str, other: str) -> None:
    assert meaning(parse(one)) == meaning(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[Service]\nNice=5\n", "[Service]\nNice=6\n"),
        ("[Service]\nNice=5\n", "[Unit]\nNice=5\n"),
        ("[Service]\nNice=5\n", "[Service]\nNice=5\nnonsense\n"),
        ("[Service]\nExecStartPre=/a\nExecStartPre=/b\n", "[Service]\nExecStartPre=/b\nExecStartPre=/a\n"),
        ("[Service]\nExecStart=/a ; /b\n", "[Service]\nExecStart=/a ';' /b\n"),
        ("[Service]\nEnvironment=A=1\n", "[Service]\nEnvironment=\nEnvironment=A=1\n"),
        ("[Service]\nEnvironment=A=50%%\n", "[Service]\nEnvironment=A=50%\n"),
        ("[Service]\nEnvironment=A=1\n", "[Service]\nEnvironment=A=1\nEnvironment=\"B\n"),
        ("[Unit]\nDescription=\"a\"\n", "[Unit]\nDescription=a\n"),
        ("[Unit]\nConditionHost=\nConditionUser=a\n", "[Unit]\nConditionUser=a\nConditionHost=\n"),
        ("[Timer]\nOnCalendar=\nOnBootSec=1\n", "[Timer]\nOnBootSec=1\nOnCalendar=\n"),
    ],
)
def test_texts_with_two_meanings(one: str, other: str) -> None:
    assert meaning(parse(one)) != meaning(parse(other))


def test_spellings_of_a_boolean_are_one_where_a_boolean_was_given() -> None:
    _, booleans = entries_from({"Service": {"Delegate": True}})
    yes, true = parse("[Service]\nDelegate=yes\n"), parse("[Service]\nDelegate=True\n")
    assert meaning(yes, booleans) == meaning(true, booleans)
    assert meaning(yes) != meaning(true)


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("infinity", ["infinity"]),
        (5, ["5"]),
        (0.5, ["0.5"]),
        (True, ["yes"]),
        (False, ["no"]),
        ("", [""]),
        (["", "/bin/a b"], ["", "/bin/a b"]),
        ([], []),
        ("  folded text\n", ["folded text"]),
        ("a\\\\", ["a\\\\"]),
    ],
)
def test_values_of_settings(value: Any, lines: list[str]) -> None:
    entries, _ = entries_from({"Service": {"Key": value}})
    assert entries == [Entry("Service", "Key", line) for line in lines]
    assert parse(render("x", entries)) == entries


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Service": {"Nice": None}}, "Nice= in .Service. has no value"),
        ({"Service": {"ExecStart": ["", None]}}, "ExecStart= in .Service. has no value"),
        ({"Service": {"Nice": {}}}, "give a text"),
        ({"Service": "Nice=5"}, "mapping of keys"),
        ({"Service]\n[Unit": {}}, "no section name"),
        ({"Service": {"Nice=5\nUser": "x"}}, "no key"),
        ({"Service": {"#Nice": 5}}, "no key"),
        ({"Service": {"Nice": "5\nUser=x"}}, "control characters"),
        ({"Service": {"Nice": "5\rUser=x"}}, "control characters"),
        ({"Service": {"Nice": "\udcff"}}, "UTF-8"),
        ({"Service": {"Nice": "5 \\"}}, "backslash"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ForjaError, match=message):
        entries_from(settings)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"A": None}, "no value"),
        ({"A": True}, "boolean"),
        ({"A": "a\nb"}, "control characters"),
        ({"A": "\udcff"}, "UTF-8"),
        ({"A": ["x"]}, "give a text"),
        ({"1A": "x"}, "no variable name"),
        ({"A-B": "x"}, "no variable name"),
        ({"": "x"}, "no variable name"),
        ({"A\n": "x"}, "no variable name"),
    ],
)
def test_variables_that_are_refused(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(ForjaError, match=message):
        environment_entries("Service", variables)


def test_a_variable_is_quoted_for_systemd() -> None:
    [entry] = environment_entries("Service", {"A": ' 50% of "$HOME" \\ \'x\' '})
    assert entry == Entry("Service", "Environment", r'''"A= 50%% of \"$HOME\" \\ 'x' "''')


# --- properties --------------------------------------------------------------------------------------------------------

PLAIN = st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t")
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VARIABLES = st.dictionaries(NAMES, st.text(PLAIN) | st.integers(), max_size=4)
VALUES = st.text(PLAIN).filter(lambda text: not text.rstrip(" \t").endswith("\\")) | st.integers() | st.booleans()
KEYS = st.sampled_from(["Nice", "ExecStart", "After", "Environment", "ConditionHost", "ConditionUser", "DeviceAllow", "X-Own"])
SETTINGS = st.dictionaries(st.sampled_from(["Unit", "Service"]), st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3)))


@given(VARIABLES)
def test_systemd_reads_back_exactly_the_given_variables(variables: dict[str, Any]) -> None:
    entries = parse(render("x", environment_entries("Service", variables)))
    read: dict[str, str] = {}
    for entry in entries:
        read.update(assignments(entry.value))
    assert {name: text.replace("%%", "%") for name, text in read.items()} == {name: str(value) for name, value in variables.items()}


@given(SETTINGS, VARIABLES)
def test_a_rendered_file_means_what_was_rendered(settings: dict[str, Any], variables: dict[str, Any]) -> None:
    given_entries, booleans = entries_from(settings)
    entries = given_entries + environment_entries("Service", variables)
    assert meaning(parse(render("header", entries)), booleans) == meaning(entries, booleans)


@given(SETTINGS, st.data())
def test_layout_does_not_change_the_meaning(settings: dict[str, Any], data: st.DataObject) -> None:
    entries, booleans = entries_from(settings)
    text = ""
    for entry in entries:  # every entry under a section of its own, with comments and spaces in all places
        text += data.draw(st.sampled_from(["", "\n", "# comment\n", ";\r\n"]))
        # A value that starts with # would be a comment on a line of its own.
        breaks = [""] if entry.value.startswith(("#", ";")) else ["", "\\\n", "\\\n# comment\n"]
        text += f"[{entry.section}]\n  {entry.key} = " + data.draw(st.sampled_from(breaks)) + entry.value + "\r\n"
    assert meaning(parse(text), booleans) == meaning(entries, booleans)


@given(st.binary(), st.text())
def test_no_text_is_too_strange_to_read(content: bytes, text: str) -> None:
    for strange in (content.decode("utf-8", "surrogateescape"), text, "[Service]\nEnvironment=" + text):
        entries = parse(strange)
        assert meaning(entries) == meaning(entries)
        assert all("\n" not in entry.value for entry in entries)
