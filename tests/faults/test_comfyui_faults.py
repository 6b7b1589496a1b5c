"""ComfyUI through upgrades, a release that does not start, a kill in pip, and away again; its front end is the real one."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .conftest import INVENTORY, Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
URL = "http://127.0.0.1:8188"
RELEASES = "/opt/forja/comfyui"
DATA = "/var/lib/comfyui"


def stats(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.on(f"curl --silent --fail --max-time 10 {URL}/system_stats"))
    return found


@pytest.fixture(scope="module", autouse=True)
def _installed(lab: Lab) -> Iterator[None]:
    lab.passes(lab.role("comfyui"))
    yield
    lab.on(f"touch {DATA}/photo")
    assert f"its data stays in {DATA}" in " ".join(lab.passes(lab.role("comfyui", comfyui_state="absent")).split())
    assert lab.on(f"ls {DATA}/photo")
    lab.passes(lab.role("comfyui", comfyui_state="absent", comfyui_purge_data=True))
    assert lab.on(f"ls -d {DATA} {RELEASES} /etc/systemd/system/comfyui.service 2>/dev/null", check=False) == ""


def test_answers_with_the_build_for_the_card_and_the_real_front_end(lab: Lab) -> None:
    assert "changed=0" in lab.passes(lab.role("comfyui"))
    found = stats(lab)
    assert found["system"]["comfyui_version"] == "0.38.1-standin"
    assert found["system"]["pytorch_version"] == "2.15.0+cu130"
    assert found["devices"][0]["type"] == "cuda"
    assert "<title>ComfyUI</title>" in lab.on(f"curl --silent --fail {URL}/")
    assert lab.on(f"cat {RELEASES}/current/constraints.txt | sort").split() == [f"{name}==2.15.0+cu130" for name in ("torch", "torchaudio",
                                                                                                                 "torchvision")]
    assert lab.on("curl --silent --max-time 5 http://ws13.forja.test:8188/", host="mirror", check=False) == ""


@pytest.mark.deep
def test_upgrade_and_downgrade(lab: Lab) -> None:
    lab.passes(lab.role("comfyui", comfyui_version="v0.38.2", comfyui_reserve_vram=2))
    assert stats(lab)["system"]["comfyui_version"] == "0.38.2-standin"
    assert "--reserve-vram 2" in lab.on("systemctl show comfyui.service --property=ExecStart")
    assert lab.on(f"ls {RELEASES}").split() == ["current", "v0.38.2"]
    lab.passes(lab.role("comfyui"))
    assert stats(lab)["system"]["comfyui_version"] == "0.38.1-standin"


def test_release_that_does_not_start_is_taken_back(lab: Lab) -> None:
    output = lab.fails(lab.role("comfyui", comfyui_version="v0.38.3"))
    assert "this release of the stand-in does not start" in output
    assert "ComfyUI v0.38.1 runs again." in output
    assert stats(lab)["system"]["comfyui_version"] == "0.38.1-standin"
    assert "changed=1 " in lab.passes(lab.role("comfyui")), "the release that failed goes"
    assert lab.on(f"ls {RELEASES}").split() == ["current", "v0.38.1"]


def test_another_commit_than_the_one_that_was_named(lab: Lab) -> None:
    known = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["lab"]["vars"]["lab_comfyui"]
    assert "the tag was moved" in lab.fails(lab.role("comfyui", comfyui_commit="0" * 40))
    assert "changed=0" in lab.passes(lab.role("comfyui", comfyui_commit=known["v0.38.1"]))
    assert "expected 40 hexadecimal digits" in lab.fails(lab.role("comfyui", comfyui_commit="abc"))


def test_killed_in_pip(lab: Lab) -> None:
    run = lab.role("comfyui", comfyui_version="v0.38.2")
    lab.kill_when(run, lambda: lab.on("pgrep -f '[p]ip.* install'", check=False) != "")
    lab.on("pkill -KILL -f '[p]ip.* install'; true")
    assert stats(lab)["system"]["comfyui_version"] == "0.38.1-standin"
    lab.passes(lab.role("comfyui", comfyui_version="v0.38.2"))
    assert stats(lab)["system"]["comfyui_version"] == "0.38.2-standin"
    lab.passes(lab.role("comfyui"))
