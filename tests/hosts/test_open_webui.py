"""Open WebUI: logs in, lists Ollama's models, streams an answer and keeps it; reachable for whom it should be and for nobody else."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.role("open_webui")

SECRETS = "/etc/forja/open-webui/secrets.env"


def url_of(variables: Any) -> str:
    address, _, port = variables["open_webui_listen"].rpartition(":")
    return f"http://{'127.0.0.1' if address == '0.0.0.0' else address}:{port}"


def secret(host: Any, name: str) -> str:
    with host.sudo():
        lines = host.file(SECRETS).content_string.splitlines()
    return str(dict(line.split("=", 1) for line in lines)[name])


def call(host: Any, url: str, token: str = "", body: Any = None) -> str:
    """Ask with the host's own curl, for the port is on its loopback."""
    header = f"-H 'Authorization: Bearer {token}' " if token else ""
    if body is None:
        return str(host.check_output(f"curl --fail --silent --max-time 60 {header}%s", url))
    send = f"printf %s %s | curl --fail --silent --max-time 60 {header}-H 'Content-Type: application/json' --data @- %s"
    return str(host.check_output(send, "%s", json.dumps(body), url))


@pytest.fixture  # of a function: on hosts without the role a test is skipped before it
def token(host: Any, variables: dict[str, Any]) -> str:
    """A token of the first administrator, whose password may have been changed since on a host in use."""
    login = {"email": variables["open_webui_admin_email"], "password": secret(host, "WEBUI_ADMIN_PASSWORD")}
    return str(json.loads(call(host, f"{url_of(variables)}/api/v1/auths/signin", body=login))["token"])


def inspect(host: Any, variables: dict[str, Any]) -> dict[str, Any]:
    with host.sudo():
        found: list[dict[str, Any]] = json.loads(host.check_output("docker inspect %s", variables["open_webui_container"]))
    return found[0]


def test_container_runs_the_image_by_digest_and_comes_back_after_a_reboot(host: Any, variables: dict[str, Any]) -> None:
    container = inspect(host, variables)
    assert container["State"]["Running"]
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    if variables["open_webui_digest"]:
        assert container["Config"]["Image"].endswith(variables["open_webui_digest"])


def test_nothing_of_an_upgrade_is_left(host: Any, variables: dict[str, Any]) -> None:
    with host.sudo():
        names = host.check_output("docker ps --all --format '{{.Names}}'").split()
        assert not host.file(f"{variables['open_webui_backup_dir']}/pending.json").exists
    assert f"{variables['open_webui_container']}-previous" not in names


def test_secrets_are_there_and_for_root_alone(host: Any) -> None:
    with host.sudo():
        assert host.file(SECRETS).mode == 0o600
    assert len(secret(host, "WEBUI_SECRET_KEY")) >= 32


def test_nobody_can_sign_up(host: Any, variables: dict[str, Any]) -> None:
    config = json.loads(call(host, f"{url_of(variables)}/api/config"))
    assert config["features"]["enable_signup"] is False
    assert not config.get("onboarding"), "there is no user yet: the first visitor would become administrator"


@pytest.mark.lab
def test_chat_streams_an_answer_and_keeps_it_over_a_restart(host: Any, variables: dict[str, Any], token: str) -> None:
    base = url_of(variables)
    models = [model["id"] for model in json.loads(call(host, f"{base}/api/models", token))["data"]]
    wanted = [model["name"] for model in variables["ollama_models"]]
    assert set(wanted) <= set(models)

    question = {"model": wanted[0], "stream": True, "messages": [{"role": "user", "content": "Good morning"}]}
    lines = call(host, f"{base}/api/chat/completions", token, question).splitlines()
    parts = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    answer = "".join(choice["delta"].get("content") or "" for part in parts for choice in part.get("choices", []))
    assert answer, lines

    chat = {"chat": {"title": "from the tests", "models": wanted[:1], "messages": [{"role": "assistant", "content": answer}]}}
    kept = json.loads(call(host, f"{base}/api/v1/chats/new", token, chat))["id"]
    with host.sudo():
        host.check_output("docker restart --time 30 %s", variables["open_webui_container"])
    host.check_output("curl --fail --silent --retry 90 --retry-delay 1 --retry-all-errors --output /dev/null %s", f"{base}/ready")
    again = json.loads(call(host, f"{base}/api/v1/chats/{kept}", token))
    assert again["chat"]["messages"][0]["content"] == answer
    host.check_output(f"curl --fail --silent -X DELETE -H 'Authorization: Bearer {token}' %s", f"{base}/api/v1/chats/{kept}")


@pytest.mark.lab
def test_neighbor_does_not_reach_the_port(host: Any, variables: dict[str, Any]) -> None:
    """Neither at the host's address nor, as engines before 28 allow, at its loopback by way of a route."""
    from testinfra import get_host  # here, because the neighbor is another host than the one under test

    neighbor = get_host("ansible://mirror", ansible_inventory=host.backend.ansible_inventory)
    port = variables["open_webui_listen"].rpartition(":")[2]
    assert neighbor.run("curl --silent --max-time 3 telnet://%s:22 </dev/null", variables["lab_address"]).stdout.startswith("SSH-")
    assert neighbor.run(f"curl --silent --max-time 3 http://%s:{port}/", variables["lab_address"]).rc in (7, 28)
