# SPDX-License-Identifier: Apache-2.0
"""Download a file with a known checksum: resumed where an earlier run was interrupted, begun again where that cannot be."""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
from typing import Any, Callable, Dict, NamedTuple

from .errors import ForjaError
from .progress import Progress

CHUNK = 1 << 20
# (url, headers) -> the response; raises as urllib does.
Opener = Callable[[str, Dict[str, str]], Any]


class Source(NamedTuple):
    url: str
    sha256: str

    def __str__(self) -> str:
        return re.sub(r"//[^/@\s]*@", "//***@", self.url)


class DroppedError(ForjaError):
    """The connection broke, or the server is busy; what arrived is kept."""


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def download(source: Source, path: str, opener: Opener, progress: Progress, retries: int = 5, room: Callable[[int], int] = lambda _: 0,
             sleep: Callable[[float], None] = time.sleep) -> None:
    """Download to `path`, which may hold the begin of the file. `retries` counts failures in a row without a byte between them.

    `room(total)` tells how many bytes the folder needs beyond the rest of the file. Raises PausedError where the slice of time is over.
    """
    failures, size = 0, _size(path)
    resumed, again = size > 0, False
    while True:
        try:
            _fetch(source, path, opener, progress, room)
        except DroppedError as error:
            failures = 0 if _size(path) > size else failures + 1
            size = _size(path)
            resumed = resumed or size > 0
            if failures > retries:
                raise ForjaError(f"{source} cannot be downloaded: {error} ({failures} times in a row, at {size} bytes). What has arrived "
                                 "is kept; run again to go on. A proxy is taken from the environment (https_proxy).") from None
            sleep(min(failures + 1, 5))
            continue
        found = sha256_of(path)
        if found == source.sha256:
            return
        os.unlink(path)
        if again or not resumed:
            raise ForjaError(f"{source} has another checksum than expected: found SHA-256 {found}, expected {source.sha256}. The file was "
                             "deleted. Either the address serves another file, or the checksum is that of another release.")
        again, size = True, 0  # the begin was of another file: once more from the first byte


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _fetch(source: Source, path: str, opener: Opener, progress: Progress, room: Callable[[int], int]) -> None:
    have = _size(path)
    try:
        response = opener(source.url, {"Range": f"bytes={have}-"} if have else {})
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing beyond what is here: whole, or of another file, which the checksum tells
            return
        if error.code == 429 or error.code >= 500:
            raise DroppedError(f"status {error.code}") from None
        advice = {401: "It wants a login.", 403: "It is forbidden from here.", 404: "There is no such file; check the version."}
        reason = f"status {error.code} {error.reason}. {advice.get(error.code, '')}".strip()
        raise ForjaError(f"{source} cannot be downloaded: {reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DroppedError(str(getattr(error, "reason", "") or error)) from None
    try:
        start = have if have and response.getcode() == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else 0
        _check_room(source, path, total - start, room(total) if total else 0)
        _store(response, path, start, total, progress)
    finally:
        response.close()


def _check_room(source: Source, path: str, rest: int, more: int) -> None:
    free = shutil.disk_usage(os.path.dirname(path)).free
    if rest + more > free:
        raise ForjaError(f"{os.path.dirname(path)} has {free >> 20} MiB free; {source} needs {(rest + more) >> 20} MiB, of which "
                         f"{more >> 20} MiB unpacked. Make room and run again.")


def _store(response: Any, path: str, start: int, total: int, progress: Progress) -> None:
    with open(path, "r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        read = getattr(response, "read1", response.read)  # returns what is there, so that the clock is watched on slow lines too
        done, chunk = start, b" "
        progress(done, total, pause=False)
        while chunk:
            try:
                chunk = read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                file.write(getattr(error, "partial", b""))
                raise DroppedError(str(error) or type(error).__name__) from None
            file.write(chunk)
            done += len(chunk)
            progress(done, total)
        if total and done < total:
            raise DroppedError(f"the connection ended at {done} of {total} bytes")


