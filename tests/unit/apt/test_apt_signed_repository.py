# SPDX-License-Identifier: Apache-2.0
"""The module apt_signed_repository: keys, files of sources, and what apt is asked."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.apt import apt_get as apt
from plugins.module_utils.forja.apt import repository as apt_repository
from plugins.module_utils.forja.apt.openpgp import fingerprints
from plugins.module_utils.forja.apt.repository import Files, Repository, changes, check_key, desired, equivalent, plan
from plugins.module_utils.forja.apt.sources import address, parse, without
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.modules import apt_signed_repository

# Made for this test; the fingerprint is what gpg --show-keys says.
KEY = b"""-----BEGIN PGP PUBLIC KEY BLOCK-----
Comment: a header that a reader skips

mDMEawFkIhYJKwYBBAHaRw8BAQdA88UE5/7s7jo4UrH90eol7MbQa+OgXr96nHEz
di1TBIO0GVRlc3Qgb25lIDxvbmVAZm9yamEudGVzdD6IkAQTFggAOBYhBMvRqFLY
neUQvmhV1qCt1RzhUIwpBQJrAWQiAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheA
AAoJEKCt1RzhUIwpEYIA/26v/Z3Q9SiO2U7dTO4S7S4ca5BtnDDHpFSulkNBPkwH
AQDNECi1OfMvePqbmbco1EX0IW/M+pyOqUyF6OMDthSVBA==
=VNU/
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "CBD1A852D89DE510BE6855D6A0ADD51CE1508C29"
BINARY = base64.b64decode(b"".join(KEY.splitlines()[3:8]))
DOCKER = Repository("docker", "http://mirror.test/download.docker.com/linux/debian", ["trixie"], ["stable"], "amd64",
                    ["https://download.docker.com/linux/debian"], [FINGERPRINT])


# Keys

@pytest.mark.parametrize("content", [KEY, KEY.replace(b"\n", b"\r\n"), b"words before\n" + KEY, BINARY])
def test_a_key_has_its_fingerprint(content: bytes) -> None:
    assert fingerprints(content) == [FINGERPRINT]


def test_every_key_of_a_file_is_found() -> None:
    second = BINARY[:2] + b"\x04\x6c" + BINARY[4:]  # another time of creation makes another fingerprint
    assert len(set(fingerprints(BINARY + second))) == 2
    assert fingerprints(KEY + KEY) == [FINGERPRINT] * 2


@pytest.mark.parametrize("head", [
    lambda body: bytes([0x99]) + len(body).to_bytes(2, "big"),
    lambda body: bytes([0x9A]) + len(body).to_bytes(4, "big"),
    lambda body: bytes([0xC6, len(body)]),
    lambda body: bytes([0xC6, 0xFF]) + len(body).to_bytes(4, "big"),
])
def test_every_form_of_length_is_read(head: Any) -> None:
    body = BINARY[2:2 + BINARY[1]]
    assert fingerprints(head(body) + body) == [FINGERPRINT]


def test_a_long_packet_in_the_new_format_is_read() -> None:
    body = b"\x04" + bytes(299)
    two_bytes = bytes([0xC6, ((300 - 192) >> 8) + 192, (300 - 192) & 0xFF])
    assert fingerprints(two_bytes + body) == [hashlib.sha1(b"\x99\x01\x2c" + body).hexdigest().upper()]


@pytest.mark.parametrize(("content", "told"), [
    (b"", "no public key"),
    (b"<html>404</html>", "not an OpenPGP key file"),
    (BINARY[:20], "ends in the middle"),
    (KEY.replace(b"mDME", b"mDM"), "armor is damaged|ends in the middle"),
    (KEY.replace(b"mDME", b"!!!!"), "armor is damaged"),
    (bytes([0x94, 1, 4]), "secret key"),
    (bytes([0xC6, 1, 6]), "version 6"),
    (bytes([0xC6, 0xE0, 4]), "in parts"),
    (bytes([0x9B, 4]), "unknown length"),
])
def test_what_is_no_key_is_told(content: bytes, told: str) -> None:
    with pytest.raises(ForjaError, match=told):
        fingerprints(content)


@given(st.binary(max_size=300))
def test_no_bytes_upset_the_reader(content: bytes) -> None:
    with contextlib.suppress(ForjaError):
        assert all(len(found) == 40 for found in fingerprints(content))


@pytest.mark.parametrize(("fingerprint", "sha256", "content", "told"), [
    (FINGERPRINT, "", KEY, None),
    (" CBD1 A852 d89d e510 BE68  55D6 A0AD D51C E150 8C29", hashlib.sha256(KEY).hexdigest().upper(), KEY, None),
    (FINGERPRINT[:-1] + "0", "", KEY, f"fingerprint {FINGERPRINT}, expected is {FINGERPRINT[:-1]}0"),
    (FINGERPRINT, "0" * 64, KEY, "expected is 0000"),
    ("E1508C29", "", KEY, "short id proves nothing"),
    (FINGERPRINT, "", BINARY, "is binary"),
    (FINGERPRINT, "", b"<html>", "not a key file that can be trusted"),
])
def test_a_key_is_checked(fingerprint: str, sha256: str, content: bytes, told: str | None) -> None:
    if told is None:
        check_key(content, [fingerprint], sha256, "http://x")
        return
    with pytest.raises(ForjaError, match=told):
        check_key(content, [fingerprint], sha256, "http://x")


# Files of sources

URI = "https://download.docker.com/linux/debian"


@pytest.mark.parametrize(("before", "after"), [
    (f"deb [arch=amd64 signed-by=/x.gpg] {URI} bookworm stable\n", None),
    (f"deb {URI}/ bookworm stable\ndeb-src {URI} bookworm stable\n\n# comment\n", None),
    (f"deb http://other.test/x y z\n deb {URI} bookworm stable\n", "deb http://other.test/x y z\n"),
    (f"deb [ arch=amd64, signed-by=/x ]{URI} bookworm stable # ours\n", None),
    ("deb https://user:pw@download.docker.com:443//linux/debian/. bookworm stable\n", None),
    (f"# deb {URI} bookworm stable\n", f"# deb {URI} bookworm stable\n"),
    ("deb https://download.docker.com/linux/ubuntu noble stable\n", "deb https://download.docker.com/linux/ubuntu noble stable\n"),
    ("", ""),
])
def test_one_line_entries_of_the_repository_go(before: str, after: str | None) -> None:
    result = without("/etc/apt/sources.list.d/x.list", before.encode(), [URI], "amd64")
    assert result == (None if after is None else after.encode())


OTHER = "Types: deb\nURIs: http://other.test/x\nSuites: y\n"


@pytest.mark.parametrize(("before", "after"), [
    (f"Types: deb\nURIs: {URI}\nSuites: bookworm\nSigned-By:\n -----BEGIN\n .\n x\n", None),
    (f"Types: deb\nuris: {URI}/\nSuites: bookworm\n\n{OTHER}", OTHER),
    (f"{OTHER}\n\nTypes: deb\nURIs:\n {URI}\nSuites: bookworm\n", OTHER),
    (OTHER, OTHER),
    (f"Enabled: no\nTypes: deb\nURIs: {URI}\nSuites: x\n\n{OTHER}", f"Enabled: no\nTypes: deb\nURIs: {URI}\nSuites: x\n\n{OTHER}"),
    (f"#Types: deb\n#URIs: {URI}\n\n{OTHER}", f"#Types: deb\n#URIs: {URI}\n\n{OTHER}"),
    (f"# a comment\n\n{OTHER}", f"# a comment\n\n{OTHER}"),
    ("", ""),
])
def test_stanzas_of_the_repository_go(before: str, after: str | None) -> None:
    result = without("/etc/apt/sources.list.d/x.sources", before.encode(), [URI], "amd64")
    assert result == (None if after is None else after.encode())


def test_a_stanza_with_several_repositories_is_a_persons_work() -> None:
    with pytest.raises(ForjaError, match=r"x\.sources names this repository and others"):
        without("x.sources", f"URIs: {URI} http://other.test/x\n".encode(), [URI], "amd64")


@given(st.lists(st.sampled_from([f"deb {URI} a b", "deb http://other.test a b", "# c", "", "deb-src [a=b] " + URI + " a b"])))
def test_taking_entries_out_twice_is_once(lines: list[str]) -> None:
    once = without("x.list", "\n".join(lines).encode(), [URI], "amd64")
    if once is not None:
        assert without("x.list", once, [URI], "amd64") == once
        assert URI.encode() not in once


TOOLKIT = "https://nvidia.github.io/libnvidia-container/stable/deb"


@pytest.mark.parametrize(("before", "uri"), [
    (f"deb [signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg] {TOOLKIT}/$(ARCH) /\n", f"{TOOLKIT}/amd64"),
    (f"deb {TOOLKIT}/amd64 /\n", f"{TOOLKIT}/$(ARCH)"),
    (f"deb {TOOLKIT}/$(ARCH)/ ./\n#deb {TOOLKIT}/experimental/$(ARCH) /\n", f"{TOOLKIT}/amd64/"),
])
def test_the_architecture_in_an_address_is_filled_in(before: str, uri: str) -> None:
    assert without("/etc/apt/sources.list.d/x.list", before.encode(), [uri], "amd64") is None
    assert without("/etc/apt/sources.list.d/x.list", before.encode(), [uri], "arm64") == before.encode()


def test_an_entry_is_the_same_in_both_forms() -> None:
    line = parse("x.list", f"deb [arch=amd64,arm64 signed-by=/k.gpg trusted=yes] {URI} trixie stable test\n")[0]
    stanza = parse("x.sources", f"Types: deb\nURIs: {URI}\n# a comment\nSuites: trixie\nComponents:\n stable\n test\n"
                                "Architectures: amd64 arm64\nSigned-By: /k.gpg\nTrusted: yes\n")[0]
    assert line._replace(path="") == stanza._replace(path="")
    assert line.insecure
    assert address(f"{URI}/", "amd64") == address("http://Download.docker.com:80/linux/debian", "amd64")


# Entries of others

MIRROR = DOCKER.uri
INLINE = "\n".join(f" {line or '.'}" for line in KEY.decode().splitlines())
DEB822 = f"X-Repolib-Name: docker\nComponents: stable\nURIs: {MIRROR}\nSigned-By: /k.asc\nSuites: trixie\nTypes: deb\n"


@pytest.mark.parametrize(("path", "content", "fits"), [
    (DOCKER.source, DEB822, True),
    ("/etc/apt/sources.list.d/their.sources", DEB822.replace("Signed-By: /k.asc", f"Signed-By:\n{INLINE}"), True),
    ("/etc/apt/sources.list.d/docker.list", f"deb [arch=amd64 signed-by=/k.gpg] {MIRROR}/ trixie stable\n", True),
    ("/etc/apt/sources.list", f"deb http://other.test a b\ndeb [signed-by=/k.asc] {MIRROR} trixie stable\n", True),
    # Not as good: another suite, no key, an unknown key, trusted without a key, sources, another address, a stranger's architecture.
    ("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/k.gpg] {MIRROR} bookworm stable\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb {MIRROR} trixie stable\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/other.asc] {MIRROR} trixie stable\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/k.gpg trusted=yes] {MIRROR} trixie stable\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/k.gpg] {MIRROR} trixie stable test\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/k.gpg] {URI} trixie stable\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb [arch=arm64 signed-by=/k.gpg] {MIRROR} trixie stable\n", False),
    ("/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/misnamed.gpg] {MIRROR} trixie stable\n", False),
    ("/etc/apt/sources.list.d/docker.sources", DEB822.replace("Types: deb", "Types: deb deb-src"), False),
])
def test_an_equivalent_entry_of_another_role_is_accepted(path: str, content: str, fits: bool) -> None:
    keys: Files = {"/k.asc": KEY, "/k.gpg": BINARY, "/misnamed.gpg": KEY, "/other.asc": b"<html>"}
    current: Files = {DOCKER.key: None, DOCKER.source: None, path: content.encode(), **keys}
    assert (equivalent(current, DOCKER) is not None) == fits
    wanted = desired(current, DOCKER, KEY)
    assert (plan(current, wanted) == []) == fits
    assert desired(wanted, DOCKER, KEY) == wanted
    assert {name: wanted[name] for name in keys} == keys


def test_an_equivalent_entry_beside_ours_is_the_one_that_stays() -> None:
    """Else the role that wrote it and this one would each change the host in every run."""
    theirs = f"deb [signed-by={DOCKER.key}] {MIRROR} trixie stable\n"
    ours = apt_repository.render_source(DOCKER)
    current: Files = {DOCKER.key: KEY, DOCKER.source: ours, "/etc/apt/sources.list.d/their.list": theirs.encode()}
    assert plan(current, desired(current, DOCKER, KEY)) == [f"remove {DOCKER.source}"]


def test_https_is_not_replaced_by_http() -> None:
    secure = DOCKER._replace(uri=URI, replaces=[])
    entry = f"deb [signed-by=/k.gpg] {URI} trixie stable\n"
    assert equivalent({"/etc/apt/sources.list": entry.encode(), "/k.gpg": BINARY}, secure)
    assert not equivalent({"/etc/apt/sources.list": entry.replace("https", "http").encode(), "/k.gpg": BINARY}, secure)


def test_a_rotated_key_is_accepted_from_a_list() -> None:
    check_key(KEY, ["0" * 40, FINGERPRINT], "", "http://x")
    with pytest.raises(ForjaError, match=f"expected is {'0' * 40} or {'1' * 40}"):
        check_key(KEY, ["0" * 40, "1" * 40], "", "http://x")


def test_the_source_names_key_and_architecture() -> None:
    assert apt_repository.render_source(DOCKER).decode().splitlines()[1:] == [
        "Types: deb", "URIs: http://mirror.test/download.docker.com/linux/debian", "Suites: trixie", "Components: stable",
        "Architectures: amd64", "Signed-By: /etc/apt/keyrings/docker.asc",
    ]
    flat = apt_repository.render_source(DOCKER._replace(suites=["/"], components=[]))
    assert b"Suites: /\nArchitectures" in flat


def test_nothing_is_left_to_do_after_a_plan() -> None:
    current: Files = {
        "/etc/apt/sources.list": b"deb http://other.test/x y z\n",
        "/etc/apt/sources.list.d/docker.list": f"deb {URI} trixie stable\n".encode(),
        DOCKER.key: None,
        DOCKER.source: None,
    }
    wanted = desired(current, DOCKER, KEY)
    assert plan(current, wanted) == [f"write {DOCKER.key}", "remove /etc/apt/sources.list.d/docker.list", f"write {DOCKER.source}"]
    assert changes(wanted, desired(wanted, DOCKER, KEY)) == []


# apt

def test_refreshing_waits_for_the_lock_of_the_lists() -> None:
    answers = [Result(100, "", "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7"), Result(0, "", "")]
    asked, slept = list[list[str]](), list[float]()

    def run(argv: list[str]) -> Result:
        asked.append(argv)
        return answers[len(asked) - 1]

    apt.refresh(run, slept.append, "/etc/apt/sources.list.d/docker.sources")
    assert len(slept) == 1
    assert "Dir::Etc::sourcelist=/etc/apt/sources.list.d/docker.sources" in asked[0]
    with pytest.raises(ForjaError, match="NO_PUBKEY"):
        apt.refresh(lambda _argv: Result(100, "Hit:1 x\n", "E: NO_PUBKEY 7\n"), slept.append)


# The module

class ExitError(Exception):
    pass


def test_module_puts_everything_back_when_apt_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wiring: check mode, a real run, a second one, and a repository that apt does not take."""
    class Here(Repository):
        key = property(lambda _self: str(tmp_path / "docker.asc"))
        source = property(lambda _self: str(tmp_path / "docker.sources"))

    (tmp_path / "old.list").write_text(f"deb {URI} trixie stable\n")
    told: dict[str, Any] = {}
    refreshes = list[str]()
    fetched = list[str]()

    def leave(_module: Any, **result: Any) -> None:
        told.clear()
        told.update(result)
        raise ExitError

    def fetch_url(_module: Any, url: str, timeout: int) -> tuple[Any, dict[str, Any]]:
        fetched.append(url)
        return io.BytesIO(KEY), {"status": 200, "msg": "OK"}

    def refresh(_run: Any, _sleep: Any, source: str) -> None:
        refreshes.append(source)
        if "broken" in Path(source).read_text():
            raise ForjaError("E: no Release file")

    def gather(repository: Repository) -> Files:
        return {str(path): apt_repository_read(path) for path in (tmp_path / "old.list", repository.key, repository.source)}

    def apt_repository_read(path: Any) -> bytes | None:
        return Path(path).read_bytes() if Path(path).exists() else None

    monkeypatch.setattr(apt_signed_repository, "Repository", Here)
    monkeypatch.setattr(apt_signed_repository, "gather", gather)
    monkeypatch.setattr(apt_signed_repository, "fetch_url", fetch_url)
    monkeypatch.setattr(apt_signed_repository, "refresh", refresh)
    module = "plugins.modules.apt_signed_repository.AnsibleModule"
    monkeypatch.setattr(f"{module}.run_command", lambda *_, **__: (0, "amd64\n", ""))
    monkeypatch.setattr(f"{module}.exit_json", leave)
    monkeypatch.setattr(f"{module}.fail_json", lambda self, msg: leave(self, failed=True, msg=msg))

    def play(**more: Any) -> dict[str, Any]:
        arguments = {"name": "docker", "uri": URI, "suites": ["trixie"], "components": ["stable"], "key_url": "http://x/gpg",
                     "key_fingerprint": FINGERPRINT, **more}
        with patch_module_args(arguments), pytest.raises(ExitError):
            apt_signed_repository.main()
        return dict(told)

    predicted = play(_ansible_check_mode=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.list"]
    done = play()
    assert predicted["steps"] == done["steps"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.asc", "docker.sources"]
    assert refreshes == [str(tmp_path / "docker.sources")]
    assert (play()["changed"], len(fetched)) == (False, 2)
    assert "BEGIN PGP" not in str(done["diff"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = play(uri="http://broken.test")
    assert "everything is as before. E: no Release file" in refused["msg"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert play(state="absent")["changed"]
    assert not list(tmp_path.iterdir())
    assert not play(state="absent")["changed"]
