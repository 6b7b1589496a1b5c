"""A change of the driver that fails half-way: the host has what it had, and is told what failed. Never neither nouveau nor nvidia.

The release BROKEN of the mirror's repository does not compile. DKMS is the real one, the kernel only has the files of one.
"""

from collections.abc import Iterator

import pytest

from .drivers import KERNEL, NO_NOUVEAU, STATE, Drivers, machine

HOST, BROKEN = "ws13", "610.57.04"
pytestmark = pytest.mark.xdist_group(HOST)
MODULE = f"modinfo --field version /lib/modules/{KERNEL}/updates/dkms/nvidia.ko*"
REPOSITORY = "/srv/mirror/developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with machine([HOST], "h200-vm", tmp_path_factory.mktemp("inventory")) as found:
        found.make_kernel()
        yield found


def test_first_driver_that_does_not_compile(host: Drivers) -> None:
    told = host.refuses(source="nvidia", version=BROKEN)
    assert f"nvidia {BROKEN} could not be built:" in told
    assert "stand-in of the Forja lab for a release that does not fit the kernel" in told, "the compiler's words are missing"
    assert "The packages are as before, and so are apt's sources and nouveau." in told
    assert host.on(NO_NOUVEAU, check=False) == ""


def test_another_driver_that_does_not_compile(host: Drivers) -> None:
    host.run(source="nvidia", version="595.58.03")
    assert host.on(MODULE) == "595.58.03"
    told = host.refuses(source="nvidia", version=BROKEN)
    assert f"nvidia {BROKEN} could not be built:" in told
    assert "The former driver is back with its modules, and so are apt's sources and holds." in told
    assert host.on(MODULE) == "595.58.03"
    assert set(host.run(source="nvidia", version="595.58.03").values()) == {0}


def test_former_driver_that_cannot_be_had_any_more(host: Drivers) -> None:
    """Then nouveau is better than nothing."""
    host.run(source="nvidia", version="595.58.03")
    host.on(f"mkdir /srv/away && mv {REPOSITORY}/*_595.58.03-1_*.deb /srv/away/", host="mirror")
    try:
        host.on("apt-get clean")
        told = host.fails(host.start_role(source="nvidia", version=BROKEN))
    finally:
        host.on(f"mv /srv/away/*.deb {REPOSITORY}/ && rmdir /srv/away", host="mirror")
    assert f"nvidia {BROKEN} could not be built:" in told
    assert "The former driver could not be put back:" in told
    assert "595.58.03" in told
    assert "the host has nouveau after a reboot" in told
    assert host.on(NO_NOUVEAU, check=False) == ""
    assert host.on(f"ls /lib/modules/{KERNEL}/updates/dkms/nvidia*", check=False) == ""
    assert "nvidia-kernel-open-dkms" not in host.on(STATE)
    assert host.on("dpkg --audit") == ""
