# SPDX-License-Identifier: Apache-2.0
"""The module open_webui_facts: what is refused before any change, and what the published port needs."""

from __future__ import annotations

import pytest

from plugins.module_utils.forja.facts.listeners import Listener
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result
from plugins.module_utils.forja.open_webui import state
from plugins.module_utils.forja.open_webui.container import Container, Docker
from plugins.module_utils.forja.open_webui.database import Database
from plugins.module_utils.forja.open_webui.state import Site

SITE = Site("20.10.24", "/data", Container(), False, False, Database(), False, False)


@pytest.mark.parametrize(("text", "expected"), [
    ("127.0.0.1:3000", ("127.0.0.1", 3000)), ("3000", ("127.0.0.1", 3000)), ("[::1]:80", ("::1", 80)), ("0.0.0.0:3000", ("0.0.0.0", 3000)),
])
def test_address_is_read(text: str, expected: tuple[str, int]) -> None:
    assert state.parse_address(text) == expected


@pytest.mark.parametrize("text", ["web.example.org:3000", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", ""])
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ForjaError, match="open_webui_listen"):
        state.parse_address(text)


@pytest.mark.parametrize(("address", "engine", "fence"), [
    ("127.0.0.1", "20.10.24", "loopback"), ("127.0.0.1", "27.5.1", "loopback"), ("127.0.0.1", "28.0.0", ""), ("127.0.0.1", "29.6.1+x", ""),
    ("127.0.0.1", "", "loopback"), ("0.0.0.0", "29.0.0", "all"), ("192.0.2.7", "20.10.24", "all"),
    ("::1", "29.0.0", ""), ("::", "29.0.0", "all"),
])
def test_fence_depends_on_address_and_engine(address: str, engine: str, fence: str) -> None:
    assert state.fence_of(address, engine) == fence


def test_network_file_system_is_refused() -> None:
    with pytest.raises(ForjaError, match="is on nfs"):
        state.refuse_remote(lambda _: Result(0, "nfs\n", ""), "/")
    state.refuse_remote(lambda _: Result(0, "ext2/ext3\n", ""), "/")


@pytest.mark.parametrize(("listening", "address", "refused"), [
    ("0.0.0.0", "127.0.0.1", True), ("127.0.0.1", "127.0.0.1", True), ("192.0.2.7", "127.0.0.1", False), ("192.0.2.7", "0.0.0.0", True),
])
def test_port_of_another_program_is_refused_with_its_name(listening: str, address: str, refused: bool) -> None:
    found = [Listener(listening, 7, "ada", "python3 -m http.server", None)]
    if refused:
        with pytest.raises(ForjaError, match="python3 -m http.server"):
            state.refuse_strangers(SITE, address, 3000, found)
    else:
        state.refuse_strangers(SITE, address, 3000, found)
    state.refuse_strangers(SITE._replace(container=Container(True, True)), address, 3000, found)  # its own proxy


def test_host_without_an_engine_is_data() -> None:
    site = state.gather(Docker(lambda _: Result(127, "", "no docker")), "web", "web", "image", "/nowhere")
    assert state.result(site, "127.0.0.1", 3000, "image")["engine"] is False
