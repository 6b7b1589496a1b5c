# SPDX-License-Identifier: Apache-2.0
"""The module release_archive against an HTTP server that cuts connections, serves wrong files, and knows ranges or does not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.host import release
from plugins.module_utils.forja.host.download import DroppedError, Source
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.progress import PausedError, Progress
from plugins.module_utils.forja.host.release import Request, State
from plugins.module_utils.forja.host.unpack import check_programs, suffix_of
from plugins.modules import release_archive

ROOT = Path(__file__).parents[3]


pause = time.sleep  # the tests replace time.sleep, so that nothing waits between tries; the server's line stays slow

class Server(ThreadingHTTPServer):
    """Serves `content`. `cut`: bytes after which each answer ends; `rate`: bytes a second; `status`: answers to give first."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.rate, self.ranges = content, 0, 0, True
        self.status: list[int] = []
        self.asked: list[str] = []
        self.sent = 0

    def url(self, name: str = "demo.tar.gz") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:  # noqa: N802
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        start = int(asked[6:-1]) if asked and self.server.ranges else 0
        body = self.server.content[start:]
        if start and not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: self.server.cut] if self.server.cut else body
        step = self.server.rate // 20 or len(body)
        for at in range(0, len(body), max(step, 1)):
            try:
                self.wfile.write(body[at : at + step])
                self.server.sent += len(body[at : at + step])
            except OSError:
                return
            pause(0.05 if self.server.rate else 0)


def tree() -> dict[str, bytes]:
    return {"bin/demo": b"#!/bin/sh\necho demo\n", "lib/data": bytes(range(256)) * 400}


def tar(mode: str = "w:gz", prefix: str = "") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as file:  # type: ignore[call-overload]
        for name, content in tree().items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o755 if name.startswith("bin") else 0o600, 4711, 4711
            file.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, content in tree().items():
            entry = zipfile.ZipInfo("top/" + name)
            entry.external_attr = (0o100755 if name.startswith("bin") else 0o100644) << 16
            file.writestr(entry, content)
        link = zipfile.ZipInfo("top/bin/alias")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "demo")
    return target.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(tar())
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


class Play:
    """The module on a root and a link below a folder of the test."""

    def __init__(self, folder: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.link, self.server, self.capsys = folder / "opt/demo", folder / "bin/demo", server, capsys

    def arguments(self, **more: Any) -> dict[str, Any]:
        links = {str(self.link): "bin/demo"}
        return {"root": str(self.root), "version": "1.0", "url": self.server.url(), "links": links,
                "sha256": hashlib.sha256(self.server.content).hexdigest(), "retries": 2, **more}

    def __call__(self, *, check: bool = False, **more: Any) -> dict[str, Any]:
        arguments = {**self.arguments(**more), "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            release_archive.main()
        result: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return result

    def content(self, version: str = "1.0") -> dict[str, bytes]:
        folder = self.root / version
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


@pytest.fixture
def play(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr("plugins.module_utils.forja.host.download.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("plugins.module_utils.forja.host.progress.FOLDER", str(tmp_path / "progress"))
    return Play(tmp_path, server, capsys)


def test_a_release_is_predicted_installed_and_left_alone(play: Play) -> None:
    predicted = play(check=True)
    assert not play.root.exists()
    done = play()
    assert (done["changed"], done["steps"], done["releases"]) == (True, predicted["steps"], ["1.0"])
    assert predicted["diff"] == done["diff"]
    assert play.content() == tree()
    assert os.readlink(play.link) == f"{play.root}/1.0/bin/demo"
    assert subprocess.run([play.link], capture_output=True, check=True).stdout == b"demo\n"
    assert (play.root / "1.0/bin/demo").stat().st_uid == os.getuid()
    asked = len(play.server.asked)
    assert not play()["changed"]
    assert len(play.server.asked) == asked
    assert not (play.root / ".partial").exists()


@pytest.mark.parametrize(("name", "content", "strip"), [
    ("x.tar.xz", tar("w:xz"), 0), ("x.tar", tar("w", "top/"), 1), ("x.zip", zipped(), 1), ("x.tgz?token=1", tar(), 0),
])
def test_kinds_of_archives(play: Play, name: str, content: bytes, strip: int) -> None:
    play.server.content = content
    assert play(url=play.server.url(name), strip=strip)["changed"]
    assert tree().items() <= play.content().items()
    assert os.access(play.link, os.X_OK)


@pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd here")
def test_zstd(play: Play) -> None:
    play.server.content = subprocess.run(["zstd", "--quiet", "--stdout"], input=tar("w"), capture_output=True, check=True).stdout
    play(url=play.server.url("x.tar.zst"))
    assert play.content() == tree()


def test_a_missing_program_is_named_before_the_download() -> None:
    with pytest.raises(ForjaError, match="Install the package xz-utils"):
        check_programs(".tar.xz", lambda name: "/bin/tar" if name == "tar" else None)
    with pytest.raises(ForjaError, match="x.rar is not an archive"):
        suffix_of("http://h/x.rar")


# Interrupted downloads

def test_a_broken_connection_is_resumed(play: Play) -> None:
    play.server.cut = len(play.server.content) // 3 + 1
    assert play()["changed"]
    assert len(play.server.asked) >= 3
    assert play.server.sent == len(play.server.content), "each byte travels once"
    assert play.content() == tree()


def test_a_server_without_ranges_begins_again(play: Play) -> None:
    part = play.root / ".partial"
    part.mkdir(parents=True)
    sha256 = hashlib.sha256(play.server.content).hexdigest()
    (part / f"{sha256[:16]}.tar.gz").write_bytes(play.server.content[:100])
    play.server.ranges = False
    play()
    assert play.server.asked == ["bytes=100-"]
    assert play.content() == tree()


def test_the_begin_of_another_file_is_thrown_away(play: Play) -> None:
    part = play.root / ".partial"
    part.mkdir(parents=True)
    sha256 = hashlib.sha256(play.server.content).hexdigest()
    (part / f"{sha256[:16]}.tar.gz").write_bytes(b"x" * 10 ** 7)  # longer than the file: the server answers 416
    (part / "tree-old").mkdir()
    (part / "0000.tar.gz").write_bytes(b"of another release")
    play()
    assert play.server.asked == ["bytes=10000000-", ""]
    assert play.content() == tree()
    assert not part.exists()


def test_a_server_that_is_gone_keeps_what_arrived(play: Play) -> None:
    play.server.cut = 50
    assert play(retries=0)["changed"], "each connection brings 50 bytes, so it ends well in spite of that"
    play.server.status = [503] * 3
    message = play(version="2.0")["msg"]
    assert "status 503 (3 times in a row, at 0 bytes)" in message
    assert play.content("1.0") == tree()
    assert not (play.root / "2.0").exists()


@pytest.mark.parametrize(("code", "said"), [(404, "no such file"), (403, "forbidden"), (401, "login")])
def test_refusals(play: Play, code: int, said: str) -> None:
    play.server.status = [code]
    assert said in play()["msg"]
    assert len(play.server.asked) == 1


def test_a_wrong_checksum_leaves_nothing(play: Play) -> None:
    play()
    found = hashlib.sha256(play.server.content).hexdigest()
    message = play(version="2.0", sha256="0" * 64)["msg"]
    assert f"found SHA-256 {found}, expected {'0' * 64}" in message
    assert sorted(path.name for path in play.root.iterdir()) == [".partial", "1.0"]
    assert os.readlink(play.link).endswith("1.0/bin/demo")
    assert play()["steps"] == [f"remove {play.root}/.partial, left by an interrupted run"]


def test_a_full_disk_is_told_before_the_download(play: Play) -> None:
    assert "MiB free" in play(unpacked_size=1 << 60)["msg"]
    assert list((play.root / ".partial").iterdir()) == []
    assert not (play.root / "1.0").exists()


def test_an_archive_without_what_is_linked(play: Play) -> None:
    message = play(links={str(play.link): "bin/other"})["msg"]
    assert "does not hold bin/other, which `links` names. It holds bin, lib." in message
    assert not (play.root / "1.0").exists()


def test_a_slice_pauses_and_the_next_goes_on(play: Play) -> None:
    play.server.content = tar("w")
    play.server.rate = len(play.server.content)
    first = play(url=play.server.url("x.tar"), slice={"seconds": 0.1, "beyond": 0})
    assert first["finished"] is False
    assert 0 < first["progress"]["done"] < first["progress"]["total"] == len(play.server.content)
    assert json.loads(next((play.root.parents[1] / "progress").iterdir()).read_text())["what"] == "demo 1.0"
    play.server.rate = 0
    assert play(url=play.server.url("x.tar"), slice={"seconds": 60, "beyond": 0})["changed"]
    assert play.server.asked[-1] == f"bytes={first['progress']['done']}-"
    assert play.content() == tree()
    assert not any((play.root.parents[1] / "progress").iterdir())


def test_progress_pauses_only_when_something_was_gained(tmp_path: Path) -> None:
    progress = Progress("x", part={"seconds": 1, "beyond": 5}, folder=str(tmp_path), clock=iter([0.0, 2.0, 3.0, 4.0]).__next__)
    progress(9, 20)
    progress(9, 20)
    with pytest.raises(PausedError) as raised:
        progress(10, 20)
    assert raised.value.result == {"changed": False, "finished": False, "progress": {
        "what": "x", "done": 10, "total": 20, "unit": "bytes", "text": "", "gained": 1}}


def test_two_runs_at_once(tmp_path: Path) -> None:
    with release.locked(str(tmp_path)), pytest.raises(ForjaError, match="Another run"), release.locked(str(tmp_path)):
        pass


# Releases beside each other

def test_old_releases_go_and_the_link_moves(play: Play) -> None:
    for version in ("1.0", "2.0", "3.0"):
        play(version=version)
        os.utime(play.root / version, (0, int(version[0])))
    assert sorted(path.name for path in play.root.iterdir()) == ["2.0", "3.0"]
    assert play(version="3.0", keep=0)["steps"] == [f"remove {play.root}/2.0"]
    assert not play(version="3.0", keep=0)["changed"]
    assert os.readlink(play.link) == f"{play.root}/3.0/bin/demo"


def test_another_checksum_of_the_same_version_replaces_it(play: Play) -> None:
    play()
    play.server.content = tar("w:gz") + b"\0"
    assert play()["steps"] == [f"install {play.server.url()} as {play.root}/1.0"]
    assert play.content() == tree()
    (play.root / "1.0/.forja-sha256").unlink()  # what something else has installed is taken as it is
    assert not play(sha256="0" * 64)["changed"]


def test_a_program_in_the_place_of_the_link_is_replaced_and_a_folder_is_not(play: Play) -> None:
    play.link.parent.mkdir()
    play.link.write_text("installed by hand")
    play()
    assert play.link.is_symlink()
    play.link.unlink()
    play.link.mkdir()
    assert "is a folder" in play()["msg"]


def test_absent(play: Play) -> None:
    play()
    assert play(state="absent")["steps"] == [f"remove {play.link}", f"remove {play.root}"]
    assert not play.root.exists()
    assert not play.link.is_symlink()
    assert not play(state="absent")["changed"]
    play.link.write_text("of somebody else")
    assert not play(state="absent")["changed"]


@pytest.mark.parametrize("more", [{"version": "../1"}, {"version": ".partial"}, {"root": "/opt"}, {"links": {"bin/x": "y"}},
                                  {"links": {"/bin/x": "../y"}}])
def test_names_that_lead_elsewhere(play: Play, more: dict[str, Any]) -> None:
    assert play(**more)["failed"]


def test_plan_of_an_interrupted_run() -> None:
    request = Request("/opt/demo", "1.0", Source("http://h/x.tar", "ab"), {}, 1)
    assert [step.action for step in release.plan(State(True, {}, {}, True), request)] == ["install"]
    assert [step.action for step in release.plan(State(True, {"1.0": "ab"}, {}, True), request)] == ["clean"]
    assert issubclass(DroppedError, ForjaError)


# Through Ansible

PLAY = """
- hosts: all
  gather_facts: false
  vars: {forja_progress: 0.4}
  tasks:
    - release_archive: %s
      register: first
    - ansible.builtin.copy: {content: "{{ first | to_json }}", dest: "%s"}
"""


def test_a_long_download_prints_its_progress(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    play, results, book = Play(tmp_path, server, capsys), tmp_path / "results.json", tmp_path / "play.yml"
    server.content = tar("w") + bytes(2_000_000)
    server.rate = 1_000_000
    book.write_text(PLAY % (json.dumps(play.arguments(url=server.url("x.tar"))), results))
    run = subprocess.run([Path(sys.executable).with_name("ansible-playbook"), "-i", "ws12,", "-c", "local", "-vvv",
                          "-e", f"ansible_python_interpreter={sys.executable}", book], cwd=ROOT, check=False, text=True,
                         capture_output=True, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})
    assert run.returncode == 0, run.stdout + run.stderr
    first = json.loads(results.read_text())
    assert first["changed"]
    assert play.content() == tree()
    lines = re.findall(r"^ws12: demo 1\.0 (\d+) % of 2 MB, \d+ [kM]B/s, \d+ s left$", run.stdout, re.M)
    assert lines, run.stdout
    assert lines == sorted(lines, key=int)
    assert any(server.asked), "the download was not cut into slices"
    assert "slice:" not in run.stdout
