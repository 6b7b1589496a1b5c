"""A change of the driver that fails half-way: the host has what it had, and is told what failed. Never neither nouveau nor nvidia.

The release BROKEN of the mirror's repository does not compile. DKMS is the real one, the kernel only has the files of one.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from .drivers import KERNEL, MACHINE, NO_NOUVEAU, STATE, Drivers, machine

HOST, FORMER, BROKEN, NEWER = "ws13", "595.58.03", "610.57.04", "6.12.99+deb13-amd64"
pytestmark = pytest.mark.host(name=HOST)
WISH: dict[str, Any] = {"source": "nvidia", "version": FORMER}
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
MODULE = f"modinfo --field version /lib/modules/{KERNEL}/updates/dkms/nvidia.ko*"
REPOSITORY = "/srv/mirror/developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with machine([HOST], "h200-vm", tmp_path_factory.mktemp("inventory")) as found:
        found.make_kernel()
        yield found


@pytest.fixture
def former(host: Drivers) -> None:
    """The driver of WISH is there, whichever test came before."""
    if host.on(MODULE, check=False) != FORMER:
        host.run(**WISH)


def test_first_driver_that_does_not_compile(host: Drivers) -> None:
    told = host.refuses(source="nvidia", version=BROKEN)
    assert f"nvidia {BROKEN} could not be built:" in told
    assert "stand-in of the Forja lab for a release that does not fit the kernel" in told, "the compiler's words are missing"
    assert "The packages are as before, and so are apt's sources and nouveau." in told
    assert host.on(NO_NOUVEAU, check=False) == ""


@pytest.mark.deep
@pytest.mark.usefixtures("former")
def test_another_driver_that_does_not_compile(host: Drivers) -> None:
    told = host.refuses(source="nvidia", version=BROKEN)
    assert f"nvidia {BROKEN} could not be built:" in told
    assert "The former driver is back with its modules, and so are apt's sources and holds." in told
    assert host.on(MODULE) == FORMER
    assert set(host.run(**WISH).values()) == {0}


@pytest.mark.deep
@pytest.mark.usefixtures("former")
def test_newer_kernel_that_the_driver_does_not_fit(host: Drivers) -> None:
    """The driver works on the kernel that runs: one that came since, and for which it cannot be built, is no reason to take it away."""
    # The driver is loaded. DKMS wants more of a kernel's headers than a Makefile.
    host.on(f"ln -s libnvidia-ml.so.{FORMER} {LIBRARY}.1; touch {LIBRARY}.{FORMER}; mkdir -p /lib/modules/{NEWER}/kernel "
            f"/lib/modules/{NEWER}/build {MACHINE}/sys/module/nvidia; touch /lib/modules/{NEWER}/build/Makefile /boot/vmlinuz-{NEWER}; "
            f"echo {FORMER} > {MACHINE}/sys/module/nvidia/version")
    try:
        told = host.refuses(**WISH)
    finally:
        host.on(f"rm -r /lib/modules/{NEWER} /boot/vmlinuz-{NEWER} {LIBRARY}.* {MACHINE}/sys/module/nvidia")
    assert "The former driver is back with its modules" in told
    assert f"It has none for {NEWER}" in told
    assert host.on(MODULE) == FORMER


@pytest.mark.deep
@pytest.mark.usefixtures("former")
def test_former_driver_that_cannot_be_had_any_more(host: Drivers) -> None:
    """Then nouveau is better than nothing."""
    host.on(f"mkdir /srv/away && mv {REPOSITORY}/*_{FORMER}-1_*.deb /srv/away/", host="mirror")
    try:
        host.on("apt-get clean")
        told = host.fails(host.start_role(source="nvidia", version=BROKEN))
    finally:
        host.on(f"mv /srv/away/*.deb {REPOSITORY}/ && rmdir /srv/away", host="mirror")
    assert f"nvidia {BROKEN} could not be built:" in told
    assert "The former driver could not be put back:" in told
    assert FORMER in told
    assert "the host has nouveau after a reboot" in told
    assert host.on(NO_NOUVEAU, check=False) == ""
    assert host.on(f"ls /lib/modules/{KERNEL}/updates/dkms/nvidia*", check=False) == ""
    assert "nvidia-kernel-open-dkms" not in host.on(STATE)
    assert host.on("dpkg --audit") == ""
