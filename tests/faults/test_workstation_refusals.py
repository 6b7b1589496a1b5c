"""A workstation validates all its blocks before the first change: what is wrong with the last one leaves the first ones alone."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)

# Tasks of a chapter `apply`: the first of every block.
FIRST_CHANGES = re.compile(r"TASK \[(nvidia_driver : (Report|Show)|docker : (Configure|Install|Report)|ollama : (Install|Report))")


@pytest.fixture
def stranger(lab: Lab) -> Iterator[None]:
    """Somebody's server on a port."""
    lab.on("systemd-run --quiet --unit=forja-stranger python3 -m http.server 11999")
    yield
    lab.on("systemctl stop forja-stranger")


def site(lab: Lab, *arguments: str, **variables: object) -> subprocess.Popen[str]:
    """A run of site.yml, as a user starts it."""
    return lab.start("ansible-playbook", "site.yml", f"--extra-vars={json.dumps(variables)}", *arguments)


def refused(lab: Lab, **variables: object) -> str:
    """The output of a run of the persona that fails before any block changes anything."""
    output = lab.fails(site(lab, **variables))
    assert "changed=0 " in output, output
    assert not FIRST_CHANGES.search(output), output
    return output


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"docker_users": ["nobody-here"]}, "nobody-here"),
        ({"docker_users": "nobody-here"}, "nobody-here"),
        ({"dokcer_users": ["admin"]}, "dokcer_users is not a variable; did you mean docker_users?"),
        ({"ollama_environment": {"OLLAMA_FLASH_ATTENTION": True}}, "OLLAMA_FLASH_ATTENTION"),
        ({"ollama_version": "99.0.0"}, "No SHA-256 is known for Ollama 99.0.0"),
        ({"ollama_allowed_sources": ["192.168.1.300"]}, "192.168.1.300"),
        ({"ollama_host": "0.0.0.0:11999"}, "Set workstation_ollama_host instead"),
        ({"workstation_nvidia_driver": "perhaps"}, 'workstation_nvidia_driver is "perhaps"; it must be true or false.'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_refused_before_any_change(lab: Lab, variables: dict[str, object], sentence: str) -> None:
    assert sentence in refused(lab, **variables)


@pytest.mark.usefixtures("stranger")
def test_a_port_in_use_is_refused_before_any_change(lab: Lab) -> None:
    assert "11999" in refused(lab, workstation_ollama_host="0.0.0.0:11999")


def test_a_string_is_read_as_the_boolean_that_it_says(lab: Lab) -> None:
    output = lab.passes(site(lab, workstation_nvidia_driver="false"))
    assert "TASK [nvidia_driver : Show" not in output
    assert "Choose the driver" not in output


@pytest.mark.parametrize("tag", ["docker", "ollama"])
def test_one_block_runs_by_its_tag(lab: Lab, tag: str) -> None:
    tasks = set(re.findall(r"TASK \[(\w+) : ", lab.passes(site(lab, f"--tags={tag}"))))
    assert tasks == {"workstation", "gpu_detect", tag}
