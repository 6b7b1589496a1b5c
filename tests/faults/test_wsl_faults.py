"""WSL2 as people have it: systemd off, a file of their own, Docker Desktop or a snap beside it."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from .conftest import Lab

HOST = "wsl12"
pytestmark = pytest.mark.host(name=HOST)

OWN = "# mine\n[boot]\nsystemd=false\n\n[user]\ndefault=ana\n"


@pytest.fixture
def without_systemd(lab: Lab) -> Iterator[str]:
    """Another tree to look at, in which systemd does not run, and a wsl.conf of the owner's that says so."""
    lab.on("cp -a /etc/wsl.conf /root/wsl.conf && cp -a /srv/machine /srv/without && rm -r /srv/without/run/systemd/system")
    lab.on(f"printf '{OWN}' > /etc/wsl.conf; rm /etc/apt/preferences.d/forja-wsl.pref")
    yield "/srv/without"
    lab.on("mv /root/wsl.conf /etc/wsl.conf; rm -r /srv/without")
    lab.passes(lab.role("wsl"))


def site(lab: Lab, *arguments: str, **variables: object) -> subprocess.Popen[str]:
    return lab.start("ansible-playbook", "site.yml", f"--extra-vars={json.dumps(variables)}", *arguments)


def test_systemd_is_switched_on_and_the_command_for_windows_is_told(lab: Lab, without_systemd: str) -> None:
    predicted = lab.passes(site(lab, "--check", gpu_detect_root=without_systemd))
    assert "changed=2 " in predicted
    assert lab.on("cat /etc/wsl.conf") == OWN.strip()
    output = lab.passes(site(lab, gpu_detect_root=without_systemd))
    assert "run `wsl --shutdown`" in " ".join(output.split())
    assert lab.on("cat /etc/wsl.conf") == OWN.strip().replace("false", "true")
    assert "TASK [docker :" not in output
    assert "changed=0 " in lab.passes(site(lab, gpu_detect_root=without_systemd))


@pytest.fixture(params=["desktop", "snap"])
def other_engine(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    make, remove, sentence = {
        "desktop": ("ln -s /mnt/wsl/docker-desktop/cli-tools/usr/bin/docker /usr/local/bin/docker", "rm /usr/local/bin/docker",
                    "Docker Desktop serves this WSL distribution (/usr/local/bin/docker is a link into /mnt/wsl/docker-desktop)"),
        "snap": ("mkdir -p /snap/docker/current", "rm -r /snap", "Docker is installed as a snap"),
    }[request.param]
    lab.on(make)
    yield sentence
    lab.on(remove)


def test_another_engine_is_refused_with_what_to_do(lab: Lab, other_engine: str) -> None:
    output = lab.fails(lab.role("docker"))
    assert other_engine in output
    assert "Nothing was changed." in output
    assert "changed=0 " in output


KEPT_OUT = ("nvidia-driver", "nvidia-driver-580-open", "nvidia-open", "cuda-drivers-580", "libnvidia-compute-580", "libnvidia-ml1",
            "libcuda1")
LET_IN = ("cuda-toolkit-13-0", "libnvidia-container1", "nvidia-container-toolkit", "nvidia-container-toolkit-base")
APT = "-o Dir::Etc::sourcelist=/srv/packages.list -o Dir::Etc::sourceparts=/nonexistent"


@pytest.fixture
def driver_repository(lab: Lab) -> Iterator[None]:
    """A repository that offers drivers, as NVIDIA's for Debian and Ubuntu does."""
    for name in (*KEPT_OUT, *LET_IN):
        lines = f"Package: {name}\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nFilename: ./x.deb\\nSize: 1\\nSHA256: {'0' * 64}\\n"
        lab.on(f"mkdir -p /srv/packages; printf '{lines}Description: x\\n\\n' >> /srv/packages/Packages")
    lab.on(f"echo 'deb [trusted=yes] file:/srv/packages ./' > /srv/packages.list; apt-get {APT} --no-list-cleanup update")
    yield
    lab.on("rm -r /srv/packages /srv/packages.list /var/lib/apt/lists/_srv_packages_*")


@pytest.mark.usefixtures("driver_repository")
def test_a_linux_driver_cannot_be_installed(lab: Lab) -> None:
    for name in KEPT_OUT:
        assert "Candidate: (none)" in lab.on(f"LC_ALL=C apt-cache {APT} policy {name}"), name
    for name in LET_IN:
        assert "Candidate: 1" in lab.on(f"LC_ALL=C apt-cache {APT} policy {name}"), name


def test_the_guard_goes_and_comes_back(lab: Lab) -> None:
    output = lab.passes(lab.role("wsl", wsl_state="absent"))
    assert "changed=1 " in output
    assert lab.on("ls /etc/apt/preferences.d/ | grep -c forja-wsl", check=False) == "0"
    assert "systemd=true" in lab.on("cat /etc/wsl.conf")
    assert "changed=1 " in lab.passes(lab.role("wsl"))
