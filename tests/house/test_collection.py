# SPDX-License-Identifier: Apache-2.0
"""The tree as the collection forja.gpu: built, installed somewhere else, and used from a folder that knows nothing of the checkout.

What runs here is harmless on any machine, also to root and outside check mode: files are in a folder of the test, and the role
is given a user that does not exist, which it has to refuse.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MODULES = sorted(path.stem for path in REPO.glob("plugins/modules/*.py"))
ROLES = sorted(path.parent.parent.name for path in REPO.glob("roles/*/tasks/main.yml"))


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    (folder / "ansible.cfg").write_text("[defaults]\ncollections_path = collections\n")

    def galaxy(*arguments: str, cwd: Path) -> None:
        command = [str(BIN / "ansible-galaxy"), "collection", *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment(folder), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    galaxy("build", "--output-path", str(folder), cwd=REPO)
    tarball = next(folder.glob("forja-gpu-*.tar.gz"))
    galaxy("install", tarball.name, "-p", "collections", "--no-deps", "--offline", cwd=folder)
    return Site(folder, tarball)


def test_tarball_holds_what_is_used_and_nothing_else(site: Site) -> None:
    with tarfile.open(site.tarball) as tarball:
        names = {member.name for member in tarball.getmembers()}
    wanted = {"LICENSE", "README.md"}
    files = [path for folder in ("plugins", "roles") for path in (REPO / folder).rglob("*.*")]
    wanted |= {str(path.relative_to(REPO)) for path in files if path.is_file() and path.suffix != ".pyc"}
    assert not wanted - names, f"not in the tarball: {sorted(wanted - names)}; look at build_ignore in galaxy.yml"
    strange = [name for name in names if name.startswith(("tests", "molecule", "inventories", "."))]
    assert not strange, f"in the tarball: {sorted(strange)}; add them to build_ignore in galaxy.yml"


@pytest.mark.parametrize("folder", ["plugins/modules", "plugins/module_utils"])
def test_installed_files_are_those_of_the_checkout(site: Site, folder: str) -> None:
    here = {str(path.relative_to(REPO)): path.read_bytes() for path in (REPO / folder).rglob("*.py")}
    there = {str(path.relative_to(site.collection)): path.read_bytes() for path in (site.collection / folder).rglob("*.py")}
    assert there == here


def test_documentation_of_every_module_renders(site: Site) -> None:
    told = site.run("ansible-doc", "--type", "module", *(f"forja.gpu.{module}" for module in MODULES))
    assert told.returncode == 0, told.stdout + told.stderr
    for module in MODULES:
        assert f"MODULE forja.gpu.{module} " in told.stdout


def test_every_module_finds_its_helpers(site: Site) -> None:
    """A module complains about its arguments, or about a host without NVML, only once everything is imported."""
    harmless = "told is failed and told.msg is not search('missing required arguments|are missing|pynvml|NVML does not start')"
    done = site.play(*({f"forja.gpu.{module}": {}, "register": "told", "failed_when": harmless} for module in MODULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ok={len(MODULES)} " in done.stdout


def test_a_module_runs(site: Site) -> None:
    file = site.folder / "daemon.json"
    task = {"forja.gpu.docker_daemon": {"path": str(file), "restart": "never", "settings": {"debug": True}}, "check_mode": False}
    done = site.play(task)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1 " in done.stdout
    assert yaml.safe_load(file.read_text()) == {"debug": True}


def test_a_role_of_the_collection_calls_its_modules_by_short_names(site: Site) -> None:
    """Roles say `docker_daemon:`, in a checkout and once installed."""
    tasks = site.collection / "roles/probe/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    file = site.folder / "other.json"
    tasks.write_text(yaml.safe_dump([{"docker_daemon": {"path": str(file), "restart": "never", "settings": {"debug": True}}}]))
    done = site.play(roles=["forja.gpu.probe"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TASK [forja.gpu.probe : docker_daemon]" in done.stdout
    assert "changed=1 " in done.stdout
    assert not file.exists(), "check mode has written a file"


def test_every_role_is_found_with_the_roles_it_lists(site: Site) -> None:
    (site.folder / "roles.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "roles": [f"forja.gpu.{role}" for role in ROLES]}]))
    done = site.run("ansible-playbook", "roles.yml", "--syntax-check")
    assert ROLES
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_role_runs(site: Site) -> None:
    role = {"role": "forja.gpu.docker", "docker_users": ["forja-nobody"]}
    done = site.play(roles=[role], gather_facts=True, gather_subset=["!all", "min"])
    assert done.returncode == 2, done.stdout + done.stderr
    assert "TASK [forja.gpu.docker : Refuse what cannot work]" in done.stdout
    assert "No user on this host is called forja-nobody" in done.stdout
