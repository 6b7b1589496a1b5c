"""Ubuntu's signed modules, on a host that Ansible takes for Ubuntu 24.04 and that has Secure Boot on.

The host is the lab's Debian 13 with Ubuntu's os-release; Ubuntu's archive and its kernel are stand-ins of the mirror with Canonical's
names, versions and dependencies. What this shows is what the role makes of them, not that Canonical's packages install.
"""

from collections.abc import Iterator

import pytest

from .drivers import NO_NOUVEAU, Drivers, machine

HOST, KERNEL = "ws13", "6.8.0-85-generic"
pytestmark = [pytest.mark.host(name=HOST), pytest.mark.deep]
ARCHIVE = "http://mirror.forja.test/archive.ubuntu.com/ubuntu"
OS_RELEASE = """PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
"""
SOURCE = f"""Types: deb
URIs: {ARCHIVE}
Suites: noble
Components: restricted
Signed-By: /etc/apt/keyrings/ubuntu.asc
"""
BECOME = f"""set -e
rm /etc/os-release; printf '%s' '{OS_RELEASE}' > /etc/os-release
mkdir -p /etc/apt/keyrings; curl -sSfo /etc/apt/keyrings/ubuntu.asc {ARCHIVE}/key.asc
printf '%s' '{SOURCE}' > /etc/apt/sources.list.d/ubuntu.sources
apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install linux-image-{KERNEL} >/dev/null"""
BECOME_AGAIN = f"""DEBIAN_FRONTEND=noninteractive apt-get -qq purge 'linux-*nvidia*' linux-image-{KERNEL} >/dev/null
rm -rf /lib/modules/{KERNEL}
rm /etc/apt/sources.list.d/ubuntu.sources /etc/apt/keyrings/ubuntu.asc; apt-get -qq update; ln -sf ../usr/lib/os-release /etc/os-release"""
SET = ("nvidia-headless-no-dkms-595-server-open", "nvidia-utils-595-server", "nvidia-compute-utils-595-server",
       "libnvidia-compute-595-server", "nvidia-kernel-common-595-server")
MODULES = (f"linux-modules-nvidia-595-server-open-{KERNEL}", "linux-modules-nvidia-595-server-open-generic")


@pytest.fixture
def ubuntu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with machine([HOST], "a100-pcie-pair", tmp_path_factory.mktemp("inventory")) as found:
        found.undo.append((HOST, BECOME_AGAIN))
        found.on(BECOME)
        yield found


def test_signed_modules_come_stay_and_go(ubuntu: Drivers) -> None:
    predicted = ubuntu.run(check=True)
    assert ubuntu.run() == predicted, "the check predicted another number of changes"
    rows = [row.split() for row in ubuntu.on("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n'").splitlines()]
    states = {name: state for name, state in rows if state[1] == "i"}
    assert {name: states.get(name) for name in SET} == dict.fromkeys(SET, "hi")
    assert {name: states.get(name) for name in MODULES} == dict.fromkeys(MODULES, "ii"), "a new kernel would come without its module"
    assert not any(name.startswith(("nvidia-dkms", "nvidia-kernel-dkms", "nvidia-kernel-open-dkms")) for name in states)
    ubuntu.witness()
    assert set(ubuntu.run().values()) == {0}
    ubuntu.run(state="absent")
    assert set(ubuntu.run(state="absent").values()) == {0}
    assert ubuntu.on(NO_NOUVEAU, check=False) == ""
