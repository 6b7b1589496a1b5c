"""A drop-in that systemd would not take never goes live, and one that breaks its service is taken back."""

import json

import pytest

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
PATH = "/etc/systemd/system/ollama.service.d/trial.conf"


def dropin(**arguments: object) -> list[str]:
    return ["ansible", "all", "--become", "--module-name=systemd_dropin",
            f"--args={json.dumps({'unit': 'ollama.service', 'name': 'trial', **arguments})}"]


def test_invalid_setting_leaves_the_old_file(lab: Lab) -> None:
    lab.passes(lab.start(*dropin(settings={"Service": {"Nice": "5"}})))
    before = lab.on(f"cat {PATH}")
    try:
        output = lab.fails(lab.start(*dropin(settings={"Service": {"Nice": "a lot"}})))
        assert "a lot" in output, "systemd's own words are missing"
        assert lab.on(f"cat {PATH}") == before
    finally:
        lab.passes(lab.start(*dropin(state="absent")))
    assert lab.on(f"ls {PATH}", check=False) == ""


def test_setting_that_breaks_the_service_is_taken_back(lab: Lab) -> None:
    output = lab.fails(lab.start(*dropin(settings={"Service": {"ExecStartPre": "/bin/false"}}, restart="changed")))
    assert "ollama.service" in output
    assert lab.on(f"ls {PATH}", check=False) == ""
    assert lab.on("systemctl is-active ollama") == "active"


def test_override_by_a_later_file_is_named(lab: Lab) -> None:
    later = "/etc/systemd/system/ollama.service.d/zz-local.conf"
    lab.on(f"printf '[Service]\\nNice=7\\n' > {later}")
    try:
        output = lab.passes(lab.start(*dropin(settings={"Service": {"Nice": "5"}})))
        assert later in " ".join(output.split())
    finally:
        lab.on(f"rm {later}")
        lab.passes(lab.start(*dropin(state="absent")))
