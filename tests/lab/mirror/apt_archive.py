"""What the mirror's apt repositories have in common: packages that are made up, an index, and a signature."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Run = Callable[..., str]


class Key(NamedTuple):
    armored: str
    fingerprint: str


def make_key(run: Run, home: Path, name: str) -> Key:
    """A signing key in a folder of its own, which is gpg's from then on."""
    os.environ["GNUPGHOME"] = str(home)
    home.mkdir(mode=0o700)
    run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", f"Forja lab {name} <{name}@forja.test>", "rsa3072", "sign", "never")
    fingerprint = re.search(r"^fpr:::::::::(\w+):", run("gpg", "--with-colons", "--list-keys"), re.M)
    assert fingerprint is not None
    return Key(run("gpg", "--armor", "--export"), fingerprint[1])


def sign(run: Run, folder: Path, names: dict[str, str]) -> None:
    """Release and InRelease of a folder with indices, by the key that was made last."""
    release = run("apt-ftparchive", *(f"-oAPT::FTPArchive::Release::{k}={v}" for k, v in names.items()), "release", ".", cwd=folder)
    (folder / "Release").write_text(release)
    run("gpg", "--batch", "--clearsign", "--output", "InRelease", "Release", cwd=folder)


def forget_key(run: Run) -> None:
    run("gpgconf", "--kill", "gpg-agent")


def package(run: Run, name: str, version: str, architecture: str, fields: dict[str, str], files: dict[str, str]) -> None:
    """NAME_VERSION_ARCHITECTURE.deb in this folder; files below DEBIAN/ are the package's scripts."""
    tree = Path(f"{name}_{version}")
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
        if path.startswith("usr/bin/"):
            (tree / path).chmod(0o755)
    (tree / "DEBIAN").mkdir(parents=True, mode=0o755, exist_ok=True)
    for script in (tree / "DEBIAN").iterdir():
        script.chmod(0o755)
    control = {"Package": name, "Version": version, "Architecture": architecture, **fields,
               "Description": f"stand-in of the Forja lab: nothing under the name {name}"}
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items() if value))
    run("dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), f"{tree}_{architecture}.deb")
    shutil.rmtree(tree)
