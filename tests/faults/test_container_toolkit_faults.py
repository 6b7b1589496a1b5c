"""CDI specifications that do not fit, and a container on Debian 13's Docker that must get the GPU nevertheless."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts import cuda_probe

from .conftest import Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
ROLE = "nvidia_container_toolkit"
TREE = "/srv/machine"
BY_HAND, GENERATED = "/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml"
RUN = "docker run --rm --device nvidia.com/gpu=all mirror.forja.test:5000/forja/hello:1 ls /dev/nvidia0"
# What of the toolkit may be on a host: packages, holds, files and settings.
STATE = f"""dpkg-query --show --showformat='${{db:Status-Abbrev}} ${{Package}}\\n' '*nvidia-container*' 2>/dev/null | grep '^.[^nc]'
apt-mark showhold | grep nvidia-container
ls {GENERATED} /etc/nvidia-container-runtime/config.toml /etc/containerd/conf.d/99-nvidia.toml 2>/dev/null
ls /etc/udev/rules.d /etc/apt/sources.list.d /etc/apt/keyrings | grep -E 'forja|nvidia-container'
ls -d /etc/systemd/system/nvidia-cdi-refresh.service.d 2>/dev/null
grep -o nvidia /etc/docker/daemon.json; true"""


def load_driver(lab: Lab, version: str) -> None:
    """What of the machine's tree says that the kernel has a driver of this version; the lab's kernel has none."""
    gpu = "proc/driver/nvidia/gpus/0000:01:00.0"
    lab.on(f"cd {TREE}; mkdir -p sys/module/nvidia {gpu}; echo {version} > sys/module/nvidia/version; "
           f"echo 'Device Minor: 0' > {gpu}/information")


@pytest.fixture(scope="module", autouse=True)
def _driver(lab: Lab) -> Iterator[None]:
    lab.on(f"cp -a {TREE} /srv/loaded && mount --bind /srv/loaded {TREE}")
    load_driver(lab, "595.71.05")
    yield
    lab.on(f"umount {TREE}; rm -r /srv/loaded; rm -rf /dev/nvidia0 /dev/nvidiactl /etc/cdi /var/run/cdi; "
           "find /dev/char -name '195:*' -delete")


def test_more_than_one_specification(lab: Lab) -> None:
    """Older guides wrote one by hand into either folder; of two in one folder, Docker refuses every device that both name."""
    lab.passes(lab.role(ROLE))
    assert lab.on(RUN) == "/dev/nvidia0"
    assert lab.on("readlink /dev/char/195:255") == "../nvidiactl"
    lab.on(f"mkdir -p /etc/cdi; sed 's/595.71.05/550.90.07/' {GENERATED} | tee {BY_HAND} > /var/run/cdi/older.yaml")
    assert "unresolvable CDI devices" in lab.on(f"{RUN} 2>&1", check=False)
    assert "changed=1" in lab.passes(lab.role(ROLE))
    assert lab.on(RUN) == "/dev/nvidia0"
    assert lab.on("ls /etc/cdi /var/run/cdi").split() == [
        "/etc/cdi:", "nvidia.yaml.replaced-by-forja", "/var/run/cdi:", "nvidia.yaml", "older.yaml.replaced-by-forja"]
    assert "changed=0" in lab.passes(lab.role(ROLE))


def test_the_probe_of_the_host_tests_sees_what_the_specification_names(lab: Lab) -> None:
    """On a real host it starts CUDA. Here the library is a stand-in, which no program can load, so that only the files are looked at."""
    lab.on(cuda_probe.BUILD)
    try:
        program = "import os; print(*(name for name in os.listdir('/dev') if 'nvidia' in name), os.listdir('/usr/lib/forja-lab'))"
        assert lab.on(cuda_probe.run(cuda_probe.CDI, program)).split() == ["nvidia0", "nvidiactl", "['libcuda.so.595.71.05']"]
    finally:
        lab.on(cuda_probe.REMOVE)


def test_specification_of_the_driver_before(lab: Lab) -> None:
    load_driver(lab, "595.80.01")
    assert "changed=1" in lab.passes(lab.role(ROLE))
    assert "libcuda.so.595.80.01" in lab.on(f"cat {GENERATED}")


def test_key_of_somebody_else(lab: Lab) -> None:
    before = lab.on(STATE)
    lab.on("rm /etc/apt/keyrings/nvidia-container-toolkit.asc")
    output = lab.fails(lab.role(ROLE, nvidia_container_toolkit_apt_key_fingerprints=["C95B321B61E88C1809C4F759DDCAE044F796ECB0"]))
    assert "C95B321B61E88C1809C4F759DDCAE044F796ECB0" in output.replace(" ", "")
    assert "changed=1" in lab.passes(lab.role(ROLE))
    assert lab.on(STATE) == before


@pytest.mark.deep
def test_settings_and_absent(lab: Lab) -> None:
    options = {"mode": "legacy", "default_runtime": True, "rootless": True, "containerd": True}
    given: dict[str, Any] = {f"nvidia_container_toolkit_{name}": value for name, value in options.items()}
    lab.on("mkdir -p /etc/containerd; [ -e /etc/containerd/config.toml ] || printf 'version = 2\\n' > /etc/containerd/config.toml")
    lab.passes(lab.role(ROLE, **given))
    assert "changed=0" in lab.passes(lab.role(ROLE, **given))
    assert lab.on("containerd config dump | grep -c 'BinaryName = .*/usr/bin/nvidia-container-runtime'") == "1"
    assert lab.on("docker info --format '{{.DefaultRuntime}}'") == "nvidia"
    assert 'mode = "legacy"' in lab.on("cat /etc/nvidia-container-runtime/config.toml")
    assert "no-cgroups = true" in lab.on("cat /etc/nvidia-container-runtime/config.toml")
    # What the role set goes with its option.
    lab.passes(lab.role(ROLE))
    assert "no-cgroups = false" in lab.on("cat /etc/nvidia-container-runtime/config.toml")
    assert lab.on("ls /etc/containerd/conf.d/99-nvidia.toml 2>/dev/null", check=False) == ""
    assert "changed=0" in lab.passes(lab.role(ROLE))
    assert lab.on("docker info --format '{{.DefaultRuntime}}'") == "runc"
    removed: dict[str, Any] = {"nvidia_container_toolkit_state": "absent"}
    lab.passes(lab.role(ROLE, **removed))
    assert lab.on(STATE) == ""
    assert "changed=0" in lab.passes(lab.role(ROLE, **removed))
    lab.passes(lab.role(ROLE))
    assert lab.on(RUN) == "/dev/nvidia0"
