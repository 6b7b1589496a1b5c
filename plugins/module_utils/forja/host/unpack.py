# SPDX-License-Identifier: Apache-2.0
"""Unpack an archive into a folder: .tar, .tar.gz, .tar.xz, .tar.zst with the programs of the host, .zip with Python."""

import os
import stat
import zipfile
from typing import Callable, Optional

from .errors import ForjaError
from .run import Run

# suffix -> the program that tar needs for it
PROGRAMS = {".tar": "", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.xz": "xz", ".txz": "xz", ".tar.zst": "zstd", ".tzst": "zstd", ".zip": ""}


def suffix_of(name: str) -> str:
    """Return the suffix of an archive's name or address; ForjaError for a kind that cannot be unpacked."""
    bare = name.split("?")[0].split("#")[0].lower()
    found = [suffix for suffix in PROGRAMS if bare.endswith(suffix)]
    if not found:
        raise ForjaError(f"{bare.rsplit('/', 1)[-1]} is not an archive that can be unpacked: expected one of {', '.join(PROGRAMS)}.")
    return max(found, key=len)


def check_programs(suffix: str, which: Callable[[str], Optional[str]]) -> None:
    """Raise where the host lacks a program that unpacking needs."""
    missing = [name for name in ([] if suffix == ".zip" else ["tar", PROGRAMS[suffix]]) if name and not which(name)]
    if missing:
        package = {"xz": "xz-utils"}.get(missing[0], missing[0])
        raise ForjaError(f"A {suffix} archive needs the program {missing[0]}, which this host lacks. Install the package {package}.")


def unpack(run: Run, archive: str, suffix: str, folder: str, strip: int) -> None:
    """Unpack into the existing `folder` without the first `strip` parts of each path. Files belong to the caller."""
    if suffix == ".zip":
        _unzip(archive, folder, strip)
        return
    program = [f"--use-compress-program={PROGRAMS[suffix]}"] if PROGRAMS[suffix] else []
    options = ["--no-same-owner", "--no-same-permissions", f"--strip-components={strip}"]
    rc, out, err = run(["tar", "--extract", f"--file={archive}", f"--directory={folder}"] + options + program)
    if rc != 0:
        raise ForjaError(f"{archive} cannot be unpacked into {folder}: {(err or out).strip()[-500:]}")


def _unzip(archive: str, folder: str, strip: int) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                parts = [part for part in entry.filename.split("/") if part not in ("", ".")][strip:]
                if ".." in parts:
                    raise ForjaError(f"{archive} holds the path {entry.filename}, which leads out of the folder.")
                path, mode = os.path.join(folder, *parts), entry.external_attr >> 16
                if entry.filename.endswith("/") or not parts:
                    os.makedirs(path, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if stat.S_ISLNK(mode):
                    os.symlink(file.read(entry).decode("utf-8"), path)
                    continue
                with file.open(entry) as source, open(path, "wb") as target:
                    for chunk in iter(lambda: source.read(1 << 20), b""):
                        target.write(chunk)
                if mode & 0o777:
                    os.chmod(path, mode & 0o755)
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise ForjaError(f"{archive} cannot be unpacked: {error}") from error
