# SPDX-License-Identifier: Apache-2.0
"""A person at the page of Open WebUI: Debian's Chromium logs in, asks the lab's model, and finds the answer again after a restart.

Needs the tests' lab, provisioned (FORJA_LAB names another one), and Debian's packages and PyPI for the image with the browser.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.programs.test_nvml_programs import LAB

HOST = f"forja-{LAB}-ws13"
ROOT = Path(__file__).parents[2]
ANSWER = "I am llama3.2:1b"


def docker(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {argv[0]}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    host = docker("inspect", "--format", "{{.Image}}", f"forja-{LAB}-ws12")
    docker("build", "--network=host", f"--build-arg=HOST={host}", "--tag=forja-lab/page", str(Path(__file__).parent / "page"))
    return "forja-lab/page"


def person(image: str, what: str, **more: str) -> str:
    password = docker("exec", HOST, "sed", "-n", "s/^WEBUI_ADMIN_PASSWORD=//p", "/etc/forja/open-webui/secrets.env")
    known = {"PAGE_URL": "http://127.0.0.1:3000", "PAGE_EMAIL": "admin@localhost", "PAGE_PASSWORD": password, "PAGE_ANSWER": ANSWER, **more}
    (ROOT / ".cache").mkdir(exist_ok=True)
    return docker("run", "--rm", "--init", f"--network=container:{HOST}", "--security-opt=seccomp=unconfined", "--shm-size=512m",
                  f"--volume={ROOT}/.cache:/out", *(f"--env={name}={value}" for name, value in known.items()),
                  image, "/opt/page/bin/python", "/srv/page.py", what)


@pytest.mark.deep
def test_a_person_gets_an_answer_and_finds_it_again(image: str) -> None:
    chat = person(image, "ask")
    assert "/c/" in chat
    assert (ROOT / ".cache/open_webui.png").stat().st_size > 10_000
    docker("exec", HOST, "docker", "restart", "open-webui")
    docker("exec", HOST, "curl", "--silent", "--output", "/dev/null", "--retry", "120", "--retry-delay", "1", "--retry-all-errors",
           "http://127.0.0.1:3000/health")
    person(image, "again", PAGE_CHAT=chat)
