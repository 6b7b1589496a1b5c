# SPDX-License-Identifier: Apache-2.0
"""The tree as the collection forja.gpu: built, installed somewhere else, and used from a folder that knows nothing of the checkout.

What runs here is harmless on any machine, also to root and outside check mode: files are in a folder of the test, and the role
is given a variable that it does not know, which it has to refuse.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.house.tree import MODULES, PERSONAS, REPO, ROLES

BIN = Path(sys.executable).parent
SHIPPED = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "LICENSES", "MANIFEST.json", "README.md"),
    *("docs", "meta", "playbooks", "plugins", "roles", "requirements.yml"),
}


class Site(NamedTuple):
    """A folder of somebody who installed the collection."""

    folder: Path
    tarball: Path

    @property
    def collection(self) -> Path:
        return self.folder / "collections/ansible_collections/forja/gpu"

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / program), *arguments], cwd=self.folder, env=environment(self.folder), capture_output=True, text=True, check=False
        )

    def play(self, *tasks: dict[str, Any], **keywords: Any) -> subprocess.CompletedProcess[str]:
        play = {"hosts": "localhost", "gather_facts": False, "tasks": list(tasks), **keywords}
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        return self.run("ansible-playbook", "play.yml", "--check")


def environment(home: Path) -> dict[str, str]:
    """Nothing of Ansible's but the configuration in the home folder."""
    ours = {"ANSIBLE_CONFIG": str(home / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", **ours}


def galaxy(home: Path, *arguments: str, cwd: Path) -> None:
    command = [str(BIN / "ansible-galaxy"), "collection", *arguments]
    result = subprocess.run(command, cwd=cwd, env=environment(home), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    (folder / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {folder}/collections\n[connection]\npipelining = True\n")
    galaxy(folder, "build", "--output-path", str(folder), cwd=REPO)
    tarball = next(folder.glob("forja-gpu-*.tar.gz"))
    galaxy(folder, "install", tarball.name, "-p", "collections", "--no-deps", "--offline", cwd=folder)
    return Site(folder, tarball)


def content(folder: Path) -> dict[str, bytes]:
    """Return what makes the collection: plugins, roles, playbooks, meta/runtime.yml."""
    paths = [path for part in ("plugins", "roles", "meta", "playbooks") for path in (folder / part).rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path for path in paths if path.suffix != ".pyc"}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("playbooks/lab/")}


def clone(folder: Path) -> str:
    """Clone the checkout, with what is not committed yet, and return its address."""
    if subprocess.run(["git", "rev-parse"], cwd=REPO, capture_output=True, check=False).returncode != 0:
        pytest.skip("this is not a git checkout, so there is nothing to clone")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=REPO, capture_output=True, text=True, check=True)
    git = ["git", "-C", str(folder), "-c", "user.name=Forja", "-c", "user.email=forja@example.org"]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    for name in listed.stdout.splitlines():
        if (REPO / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name, follow_symlinks=False)
    subprocess.run([*git, "add", "--all", "--force"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "all"], check=True)
    return f"git+file://{folder}"


@pytest.mark.parametrize("source", [".", "absolute", "git"])
def test_install_from_a_folder_or_git_is_complete(source: str, tmp_path: Path) -> None:
    """With links in plugins/, ansible-galaxy once reported success and installed no module."""
    address = {".": ".", "absolute": str(REPO)}.get(source) or clone(tmp_path / "clone")
    galaxy(tmp_path, "install", address, "-p", str(tmp_path), "--no-deps", "--offline", cwd=REPO)
    assert content(tmp_path / "ansible_collections/forja/gpu") == content(REPO)


def test_tarball_is_complete(site: Site) -> None:
    assert content(site.collection) == content(REPO)


def test_tarball_holds_what_is_used_and_nothing_else(site: Site) -> None:
    with tarfile.open(site.tarball) as tarball:
        names = {member.name for member in tarball.getmembers()}
    missing = {"LICENSE", "README.md", "meta/runtime.yml", "docs/index.md"} - names
    assert not missing, f"not in the tarball: {sorted(missing)}; look at build_ignore in galaxy.yml"
    strange = sorted({name.split("/")[0] for name in names} - SHIPPED)
    assert not strange, f"in the tarball: {strange}; add them to build_ignore in galaxy.yml"
    assert "playbooks/lab" not in names, "in the tarball: playbooks/lab; add it to build_ignore in galaxy.yml"


def test_documentation_of_every_module_renders(site: Site) -> None:
    result = site.run("ansible-doc", "--type", "module", *(f"forja.gpu.{module}" for module in MODULES))
    assert result.returncode == 0, result.stdout + result.stderr
    for module in MODULES:
        assert f"MODULE forja.gpu.{module} " in result.stdout


def test_every_module_finds_its_helpers(site: Site) -> None:
    """The installed files import each other; the tests below run some of them through Ansible."""
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "for name in sys.argv[2:]:\n"
        "    module = importlib.import_module('ansible_collections.forja.gpu.plugins.modules.' + name)\n"
        "    assert module.__file__.startswith(sys.argv[1]), module.__file__\n"
    )
    place = str(site.folder / "collections")
    result = subprocess.run([sys.executable, "-c", code, place, *MODULES], cwd=site.folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_module_runs(site: Site) -> None:
    file = site.folder / "daemon.json"
    task = {"forja.gpu.docker_daemon": {"path": str(file), "restart": "never", "settings": {"debug": True}}, "check_mode": False}
    result = site.play(task)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "changed=1 " in result.stdout
    assert yaml.safe_load(file.read_text()) == {"debug": True}


def test_a_role_of_the_collection_calls_its_modules_by_short_names(site: Site) -> None:
    """Roles say `docker_daemon:`, in a checkout and once installed."""
    tasks = site.collection / "roles/probe/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    file = site.folder / "other.json"
    tasks.write_text(yaml.safe_dump([{"docker_daemon": {"path": str(file), "restart": "never", "settings": {"debug": True}}}]))
    result = site.play(roles=["forja.gpu.probe"])
    assert result.returncode == 0, result.stdout + result.stderr
    assert "TASK [forja.gpu.probe : docker_daemon]" in result.stdout
    assert "changed=1 " in result.stdout
    assert not file.exists(), "check mode has written a file"


def test_every_role_is_found_with_the_roles_it_lists(site: Site) -> None:
    (site.folder / "roles.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "roles": [f"forja.gpu.{role}" for role in ROLES]}]))
    result = site.run("ansible-playbook", "roles.yml", "--syntax-check")
    assert ROLES
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("persona", PERSONAS)
def test_playbook_of_a_persona_is_found(site: Site, persona: str) -> None:
    result = site.run("ansible-playbook", f"forja.gpu.{persona}", "--syntax-check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_role_runs(site: Site) -> None:
    result = site.play(roles=["forja.gpu.docker"], vars={"docker_usres": ["me"]}, gather_facts=True, gather_subset=["!all", "min"])
    assert result.returncode == 2, result.stdout + result.stderr
    assert "TASK [forja.gpu.docker : Check the variables]" in result.stdout
    assert "did you mean docker_users" in result.stdout


def test_lint_of_a_play_that_uses_the_collection_is_clean(site: Site, tmp_path: Path) -> None:
    (tmp_path / ".ansible-lint").write_text("profile: production\noffline: true\n")
    roles = "".join(f"    - role: forja.gpu.{role}\n" for role in ROLES)
    tasks = "  tasks:\n    - name: Look\n      forja.gpu.gpu_facts:\n        gather: [gpus]\n"
    play = f"---\n- name: Use the collection\n  hosts: gpus\n  become: true\n  roles:\n{roles}{tasks}"
    (tmp_path / "play.yml").write_text(play)
    command = [str(BIN / "ansible-lint"), "--offline", "--strict", "--nocolor", "play.yml"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(site.folder), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARNING" not in result.stdout + result.stderr
