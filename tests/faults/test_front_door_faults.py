"""The door: who passes and who does not, from this host and from a neighbor; what is refused leaves what runs alone."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
KEY, PASSWORD = "k" * 32, "correct horse battery"
WISH: dict[str, Any] = {
    "front_door_users": [{"name": "ada", "password": PASSWORD}],
    "front_door_api_keys": [KEY],
    "front_door_names": [f"{HOST}.forja.test"],
    "front_door_sites": [{"name": "web", "port": 8443, "upstream": "http://127.0.0.1:11434", "auth": "password"},
                         {"name": "api", "port": 9443, "upstream": "http://127.0.0.1:11434", "auth": "key"}],
}
CURL = "curl --silent --max-time 20 --cacert /tmp/door.crt --output /dev/null --write-out '%{http_code}' "


@pytest.fixture(scope="module", autouse=True)
def _door(lab: Lab) -> Iterator[None]:
    lab.passes(lab.role("front_door", **WISH))
    yield
    lab.passes(lab.role("front_door", front_door_state="absent"))
    assert "changed=0" in lab.passes(lab.role("front_door", front_door_state="absent"))
    assert lab.on("ss --no-header --listening --tcp 'sport = :8443 or sport = :80'") == ""
    lab.on("rm -rf /etc/forja/front-door /tmp/door.crt")


def test_who_passes(lab: Lab) -> None:
    """Also from another host of the network, by the authority's certificate."""
    assert "changed=0" in lab.passes(lab.role("front_door", **WISH))
    authority = lab.on("cat /etc/forja/front-door/ca.crt")
    for place in (HOST, "mirror"):
        lab.on(f"printf '%s\\n' '{authority}' > /tmp/door.crt", host=place)
        web, api = (f"https://{HOST}.forja.test:{port}/api/version" for port in (8443, 9443))
        assert lab.on(CURL + web, host=place) == "401"
        assert lab.on(f"{CURL} --user 'ada:{PASSWORD}' {web}", host=place) == "200"
        assert lab.on(f"{CURL} --user 'ada:wrong' {web}", host=place) == "401"
        assert lab.on(CURL + api, host=place) == "401"
        assert lab.on(f"{CURL} --header 'Authorization: Bearer {KEY}' {api}", host=place) == "200"
        assert lab.on(f"{CURL} --header 'Authorization: Bearer {KEY}x' {api}", host=place) == "401"
    lab.on("rm /tmp/door.crt", host="mirror")


def test_answers_come_word_by_word(lab: Lab) -> None:
    question = json.dumps({"model": "llama3.2:1b", "messages": [{"role": "user", "content": "hi"}]})
    answer = lab.on(f"curl --silent --insecure --max-time 60 --header 'Authorization: Bearer {KEY}' https://127.0.0.1:9443/api/chat "
                    f"--data '{question}'")
    assert "I am llama3.2:1b" in "".join(json.loads(line)["message"]["content"] for line in answer.splitlines())


@pytest.mark.parametrize(("change", "sentence"), [
    ({"front_door_api_keys": []}, "A site asks for a key and front_door_api_keys is empty."),
    ({"front_door_users": [{"name": "ada", "password": "short"}]}, "shorter than 12 characters"),
    ({"front_door_sites": [{**WISH["front_door_sites"][1], "port": 11434}]}, "in use by another program"),
    ({"front_door_certificate": "/no/such.crt", "front_door_certificate_key": "/no/such.key"}, "/no/such.crt"),
])
def test_what_is_refused_leaves_the_door_as_it_is(lab: Lab, change: dict[str, Any], sentence: str) -> None:
    before = lab.on("sha256sum /etc/forja/front-door/nginx.conf; systemctl show forja-front-door --property=MainPID")
    output = lab.fails(lab.role("front_door", **{**WISH, **change}))
    assert sentence in output
    assert PASSWORD not in output
    assert lab.on("sha256sum /etc/forja/front-door/nginx.conf; systemctl show forja-front-door --property=MainPID") == before


def test_a_user_who_is_not_named_any_more(lab: Lab) -> None:
    other = {"name": "grace", "password": "another password"}
    lab.passes(lab.role("front_door", **{**WISH, "front_door_users": [other]}))
    assert lab.on("cut -d: -f1 /etc/forja/front-door/passwords") == "grace"
    lab.passes(lab.role("front_door", **WISH))
    assert lab.on("cut -d: -f1 /etc/forja/front-door/passwords") == "ada"
