# SPDX-License-Identifier: Apache-2.0
"""Pins and versions agree everywhere. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import ansible.module_utils
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.house.tree import REPO, each_lock, load


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", (REPO / lock).read_text(), re.MULTILINE)}


@each_lock
def test_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (REPO / lock).read_text()
    assert "://" not in text, f"{lock}: names an address; make it with --no-emit-index-url, a site has its own index."
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    bare = [entry.split()[0] for entry in entries if not re.match(r"[\w.-]+==", entry) or "--hash=sha256:" not in entry]
    assert entries, f"{lock}: pins nothing."
    assert not bare, f"{lock}: {bare} has no version or no hash; make the file with `uv pip compile --generate-hashes`."


def test_lock_agrees_with_pyproject() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    locked = pins("requirements.lock")
    for wanted in map(Requirement, project["dependencies"]):
        version = locked.get(canonicalize_name(wanted.name))
        assert version, f"requirements.lock: {wanted.name} of pyproject.toml is missing; make the file again."
        assert wanted.specifier.contains(version), f"requirements.lock pins {wanted.name} {version}, pyproject.toml asks for {wanted}."


def collections() -> dict[str, str]:
    return {entry["name"]: entry["version"] for entry in load(REPO / "requirements.yml")["collections"]}


@pytest.mark.parametrize("name", sorted(collections()))
def test_collection_is_the_one_that_ansible_carries(name: str) -> None:
    manifest = Path(ansible.module_utils.__path__[0]).parents[1] / "ansible_collections" / name.replace(".", "/") / "MANIFEST.json"
    version = json.loads(manifest.read_text())["collection_info"]["version"]
    assert collections()[name] == version, f"requirements.yml: {name} is {collections()[name]}, the package `ansible` carries {version}."


def test_collections_satisfy_galaxy_yml() -> None:
    for name, wanted in (load(REPO / "galaxy.yml").get("dependencies") or {}).items():
        version = collections().get(name)
        assert version, f"requirements.yml: add {name}, which galaxy.yml depends on."
        assert SpecifierSet(wanted).contains(version), f"galaxy.yml asks for {name} {wanted}, requirements.yml installs {version}."


def test_no_collection_is_named_in_vain() -> None:
    """Who installs forja.gpu without its dependencies must miss nothing, and nobody installs what nothing uses."""
    roles = "\n".join(path.read_text() for path in REPO.glob("roles/**/*.yml"))
    vain = [name for name in load(REPO / "galaxy.yml").get("dependencies") or {} if f"{name}." not in roles]
    assert not vain, f"galaxy.yml: no role uses {vain}; remove it from the dependencies."
    playbooks = "\n".join(path.read_text() for folder in ("playbooks", "molecule", "tests") for path in (REPO / folder).rglob("*.yml"))
    vain = [name for name in collections() if f"{name}." not in roles + playbooks]
    assert not vain, f"requirements.yml: nothing uses {vain}; remove it."


def test_one_version_in_three_places() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    changelog = newest.group(1) if newest else None
    galaxy = load(REPO / "galaxy.yml")["version"]
    assert galaxy == project == changelog, f"galaxy.yml says {galaxy}, pyproject.toml {project}, CHANGELOG.md {changelog}; make them equal."
