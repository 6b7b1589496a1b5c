# SPDX-License-Identifier: Apache-2.0
"""The module forja_program: what it installs is whole, runs without Ansible, and is the old or the new, never half of either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils.forja.host import program as program_files
from plugins.module_utils.forja.host.program import apply, gather, launcher, plan, wanted_files
from plugins.modules import forja_program as module

REPO = Path(__file__).resolve().parents[3]
FILES = {"forja/__init__.py": b"", "forja/mig/__init__.py": b"", "forja/mig/__main__.py": b"def main():\n    return 7\n"}


class Place(NamedTuple):
    """A folder that stands for /usr/local."""

    home: str
    command: str

    def apply(self, files: dict[str, bytes], text: bytes | None, broken: bool = False) -> None:
        def compile_in(folder: str) -> None:
            if broken:
                raise OSError("no space left on device")
            subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)

        apply(self.home, self.command, files, text, compile_in)

    def left(self, files: dict[str, bytes], text: bytes | None) -> list[str]:
        return plan(gather(self.home, self.command), files, text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(str(tmp_path / "lib/forja"), str(tmp_path / "sbin/forja-mig"))
    monkeypatch.setattr(program_files, "HOME", found.home)
    monkeypatch.setattr(program_files, "LAUNCHER", found.command)
    return found


def test_modules_that_imports_lead_to() -> None:
    sources = {
        "": ("", True), "mig": ("", True), "a": ("", False), "b": ("import json\nfrom os import path\n", False), "idle": ("", False),
        "mig.__main__": ("from ..a import function\nfrom . import inside\n", False), "mig.idle": ("", False),
        "mig.inside": ("def late():\n    from .. import b\n", False),
    }
    assert set(wanted_files(sources.get)) == {
        "forja/__init__.py", "forja/a.py", "forja/b.py", "forja/mig/__init__.py", "forja/mig/__main__.py", "forja/mig/inside.py"
    }


def test_the_program_is_the_modules_own_code() -> None:
    files = wanted_files()
    assert {"forja/mig/node.py", "forja/mig/layout/solver.py", "forja/facts/holders.py"} <= set(files)
    assert {path: (REPO / "module_utils" / path).read_bytes() for path in files} == files
    assert not [path for path, content in files.items() if b"import ansible" in content or b"from ansible" in content]


def test_it_runs_without_ansible_and_reads_no_module_of_the_folder_it_is_started_in(place: Place, tmp_path: Path) -> None:
    place.apply(wanted_files(), launcher(sys.executable))
    (tmp_path / "argparse.py").write_text("raise SystemExit('a trap')")
    told = subprocess.run([place.command, "--help"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "Exit codes" in told.stdout
    plain = [sys.executable, "-m", "forja.mig", "--help"]
    told = subprocess.run(plain, env={"PYTHONPATH": place.home}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_written_once_then_nothing_is_left(place: Place) -> None:
    text = launcher(sys.executable)
    assert place.left(FILES, text) == ["write " + ", ".join(sorted(FILES)), "write the launcher"]
    place.apply(FILES, text)
    assert place.left(FILES, text) == []
    assert subprocess.run([place.command], check=False).returncode == 7
    assert (os.stat(place.home + "/forja/").st_mode & 0o777, os.stat(place.command).st_mode & 0o777) == (0o755, 0o755)


def test_everybody_may_run_it_whatever_the_umask(place: Place) -> None:
    old = os.umask(0o077)
    try:
        place.apply(FILES, launcher(sys.executable))
    finally:
        os.umask(old)
    modes = {Path(place.home).stat().st_mode & 0o777}
    for folder, folders, names in os.walk(place.home + "/forja/"):
        modes |= {os.stat(os.path.join(folder, name)).st_mode & 0o777 for name in [*folders, *names]}
    assert modes == {0o755, 0o644}


@pytest.mark.parametrize(("damage", "told"), [
    ("echo broken > lib/forja/forja/mig/__main__.py", "write forja/mig/__main__.py"),
    ("rm lib/forja/forja/mig/__init__.py", "write forja/mig/__init__.py"),
    ("touch lib/forja/forja/stale.py", "write forja/stale.py"),
    ("rm -r lib/forja/forja/mig/__pycache__", "write the compiled files"),
    ("mkdir lib/forja/release-cut-off", "remove release-cut-off"),
    ("rm sbin/forja-mig", "write the launcher"),
    ("chmod 0644 sbin/forja-mig", "write the launcher"),
    ("rm lib/forja/forja && mkdir lib/forja/forja", "write forja/__init__.py"),
])
def test_damage_is_found_and_repaired(place: Place, tmp_path: Path, damage: str, told: str) -> None:
    text = launcher(sys.executable)
    place.apply(FILES, text)
    subprocess.run(["sh", "-ec", damage], cwd=tmp_path, check=True)
    assert place.left(FILES, text)[0].startswith(told)
    place.apply(FILES, text)
    assert place.left(FILES, text) == []
    assert subprocess.run([place.command], check=False).returncode == 7


def test_a_release_that_cannot_be_made_leaves_the_old_one(place: Place) -> None:
    text = launcher(sys.executable)
    place.apply(FILES, text)
    fresh = dict(FILES, **{"forja/mig/__main__.py": b"def main():\n    return 8\n"})
    with pytest.raises(OSError, match="no space"):
        place.apply(fresh, text, broken=True)
    assert subprocess.run([place.command], check=False).returncode == 7
    place.apply(fresh, text)
    assert subprocess.run([place.command], check=False).returncode == 8
    assert place.left(fresh, text) == []


def test_absent(place: Place) -> None:
    place.apply(FILES, launcher(sys.executable))
    assert place.left({}, None) == ["remove " + ", ".join(sorted(FILES)), "remove the launcher"]
    place.apply({}, None)
    assert place.left({}, None) == []
    assert not os.path.exists(place.home)


@pytest.mark.parametrize("check", [True, False])
def test_the_module(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], check: bool) -> None:
    monkeypatch.setattr(module, "interpreter", lambda: sys.executable)
    with patch_module_args({"_ansible_check_mode": check}), pytest.raises(SystemExit) as end:
        module.main()
    told = json.loads(capsys.readouterr().out)
    assert end.value.code == 0, told
    assert told["changed"]
    assert told["interpreter"] == sys.executable
    assert os.path.exists(place.command) is not check


def test_files_of_the_program(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "interpreter", lambda: sys.executable)
    old, fresh = tmp_path / "old", tmp_path / "etc/forja/mig.yaml"
    old.write_text("of no use")
    files = [{"path": str(old), "content": ""}, {"path": str(fresh), "content": {"version": "v1"}}]
    for written in ([str(old), str(fresh)], []):
        with patch_module_args({"files": files}), pytest.raises(SystemExit):
            module.main()
        told = json.loads(capsys.readouterr().out)
        assert told["written"] == written
        assert told["changed"] is bool(written)
    assert json.loads(fresh.read_text()) == {"version": "v1"}
    assert not old.exists()


def test_the_module_wants_pynvml(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "interpreter", lambda: None)
    with patch_module_args({}), pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 1
    assert "nvml_binding" in capsys.readouterr().out
    assert not os.path.exists(place.command)
