"""Docker: settings that cannot be read or would not start lose nothing and leave the engine running."""

from collections.abc import Iterator

import pytest

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
DAEMON = "/etc/docker/daemon.json"


@pytest.fixture(autouse=True)
def _engine_survives(lab: Lab) -> Iterator[None]:
    """Each test ends with the settings as they were, the engine answering, and a second run that changes nothing."""
    before = lab.on(f"cat {DAEMON}")
    lab.on("docker rm -f lodger >/dev/null 2>&1; docker run -d --name lodger mirror.forja.test:5000/forja/hello:1 sleep 3600 >/dev/null")
    yield
    assert lab.on("docker inspect lodger --format '{{.State.Running}}'") == "true", "a container died on the way"
    lab.on(f"docker rm -f lodger >/dev/null; cat > {DAEMON} <<'END'\n{before}\nEND")
    assert "changed=0" in lab.passes(lab.role("docker"))


@pytest.mark.parametrize(("content", "said"), [
    ('{"log-driver": "json-file",}', "line 1"),
    ('["not", "an", "object"]', "object"),
])
def test_invalid_file_is_kept(lab: Lab, content: str, said: str) -> None:
    lab.on(f"printf '%s' '{content}' > {DAEMON}")
    output = lab.fails(lab.role("docker"))
    assert DAEMON in output
    assert said in output
    assert lab.on(f"cat {DAEMON}") == content


def test_setting_that_the_engine_refuses(lab: Lab) -> None:
    before = lab.on(f"cat {DAEMON}")
    output = lab.fails(lab.role("docker", docker_daemon_settings={"no-such-setting": True}))
    assert "no-such-setting" in output
    assert lab.on(f"cat {DAEMON}") == before
    assert lab.on("docker version --format '{{.Server.Version}}'")


def test_settings_of_others_stay(lab: Lab) -> None:
    lab.on(f"""python3 - <<'END'
import json
path = "{DAEMON}"
settings = json.load(open(path))
settings["labels"] = ["somebody=else"]
json.dump(settings, open(path, "w"))
END""")
    lab.passes(lab.role("docker", docker_daemon_settings={"max-concurrent-downloads": 2}))
    content = lab.on(f"cat {DAEMON}")
    assert "somebody=else" in content
    assert '"max-concurrent-downloads": 2' in content


def test_unknown_user(lab: Lab) -> None:
    assert "nobody-here" in lab.fails(lab.role("docker", docker_users=["nobody-here"]))
