# SPDX-License-Identifier: Apache-2.0
"""Who listens on a port, from /proc."""

from __future__ import annotations

import os
import socket

import pytest

from plugins.module_utils.forja.facts.listeners import collides, listeners, parse
from plugins.module_utils.forja.host.files import HostFiles

# Of an x86_64 host: OLLAMA on 127.0.0.1:11434 and [::]:8080, a connection, and one in TIME_WAIT.
TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:2CAA 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   997        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0     0 0 99 1
   3: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0     0 0 98 1
"""


@pytest.mark.parametrize(("port", "found"), [
    (11434, {"127.0.0.1": ("4711", 997)}),
    (8080, {"::": ("99", 0), "::ffff:127.0.0.1": ("98", 0)}),
    (1, {}),
])
def test_sockets_that_listen(port: int, found: dict[str, tuple[str, int]]) -> None:
    parsed = {address.replace("::ffff:7f00:1", "::ffff:127.0.0.1"): owner for address, owner in parse(TABLE, port).items()}
    assert parsed == found


def test_a_socket_of_our_own_is_found_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = listeners(HostFiles(), server.getsockname()[1])
        assert (found.address, found.pid) == ("127.0.0.1", os.getpid())
        assert "pytest" in found.command or "python" in found.command


@pytest.mark.parametrize(("wanted", "other", "result"), [
    ("127.0.0.1", "127.0.0.1", True), ("127.0.0.1", "0.0.0.0", True), ("127.0.0.1", "::", True), ("0.0.0.0", "192.0.2.1", True),
    ("127.0.0.1", "192.0.2.1", False), ("::1", "127.0.0.1", False),
])
def test_addresses_that_collide(wanted: str, other: str, result: bool) -> None:
    assert collides(wanted, other) is result
