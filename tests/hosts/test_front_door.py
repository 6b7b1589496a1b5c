# SPDX-License-Identifier: Apache-2.0
"""The door with TLS: it runs from its own unit, and the distribution's server was not opened with it."""

from typing import Any

import pytest

from tests.hosts.wanted import Wanted

pytestmark = [pytest.mark.role("front_door"), pytest.mark.journal("forja-front-door.service")]
CONFIG = "/etc/forja/front-door/nginx.conf"


@pytest.fixture(autouse=True)
def _left_out(variables: Wanted) -> None:
    if "workstation" in variables.roles and not variables.get("workstation_front_door", False):
        pytest.skip("workstation_front_door is false")


def test_service_runs_and_starts_at_boot(host: Any) -> None:
    service = host.service("forja-front-door")
    assert service.is_running
    assert service.is_enabled


def test_only_root_reads_its_keys(host: Any) -> None:
    assert host.file(CONFIG).mode == 0o600
    assert not host.file("/etc/forja/front-door/passwords").exists or host.file("/etc/forja/front-door/passwords").mode == 0o640


def test_each_site_speaks_tls_and_asks_who_it_is(host: Any, variables: Wanted) -> None:
    address = "127.0.0.1" if variables["front_door_listen"] == "0.0.0.0" else variables["front_door_listen"]
    for site in variables["front_door_sites"]:
        code = "curl --silent --insecure --max-time 10 --output /dev/null --write-out '%{http_code}' "
        answer = host.run(f"{code} https://{address}:{site['port']}/").stdout
        assert (answer == "401") is (site.get("auth", "password") != "none"), f"{site['name']} answers {answer} to a stranger"
