# SPDX-License-Identifier: Apache-2.0
"""Ask a service whether it answers: HTTP, a TCP port, or a Unix socket."""

import http.client
import json
import re
import socket
import urllib.error
from typing import Any, Callable, Dict, List, NamedTuple, Optional

LIMIT = 65536  # bytes of an answer that are read

# (url, path of a Unix socket or "", seconds) -> the response; raises as urllib does.
Opener = Callable[[str, str, float], Any]


class Endpoint(NamedTuple):
    """Where a service answers. `path` is a Unix socket; with `url` HTTP is spoken over it. `status`: accepted codes, none: below 500."""

    url: str = ""
    address: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    status: List[int] = []

    def __str__(self) -> str:
        if self.url:
            return re.sub(r"//[^/@\s]*@", "//***@", self.url) + (f" over {self.path}" if self.path else "")
        return self.path or f"{self.address}:{self.port}"

    def __bool__(self) -> bool:
        return bool(self.url or self.path or self.port)


class Answer(NamedTuple):
    """Whether the endpoint answered as expected, and what was found; `status` is 0 where no HTTP was spoken."""

    ok: bool
    found: str
    status: int = 0
    data: Optional[Dict[str, Any]] = None  # the body, where it is a JSON object


def ask(endpoint: Endpoint, opener: Opener, seconds: float) -> Answer:
    """Ask once, for at most `seconds`. What fails is an answer too."""
    try:
        return _ask_http(endpoint, opener, seconds) if endpoint.url else _connect(endpoint, seconds)
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        return Answer(False, str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__))


def _connect(endpoint: Endpoint, seconds: float) -> Answer:
    if endpoint.path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(endpoint.path)
        finally:
            connection.close()
    else:
        socket.create_connection((endpoint.address.strip("[]"), endpoint.port), seconds).close()
    return Answer(True, "a connection")


def _ask_http(endpoint: Endpoint, opener: Opener, seconds: float) -> Answer:
    try:
        response = opener(endpoint.url, endpoint.path, seconds)
        status = int(response.getcode())
    except urllib.error.HTTPError as error:  # a response too
        response, status = error, int(error.code)
    try:
        body = response.read(LIMIT)
    finally:
        response.close()
    try:
        data = json.loads(body.decode("utf-8"))
    except ValueError:
        data = None
    good = status in endpoint.status if endpoint.status else status < 500
    return Answer(good, f"HTTP status {status}", status, data if isinstance(data, dict) else None)
