"""Microsoft's GRID build on an Azure VM with a sixth of an A10: only the metadata service tells that it needs one.

The mirror answers as the metadata service and serves stand-ins of the installer, which leave what the true one does, and no driver.
"""

import json
from collections.abc import Iterator

import pytest

from tests.lab.machines import build

from .conftest import ROOT
from .drivers import MACHINE as TREE
from .drivers import Drivers, machine

HOST, MACHINE, IMDS = "ws12", "azure-nv-a10-sixth", "/srv/imds/metadata/instance"
pytestmark = pytest.mark.host(name=HOST)
OLD, NEW = "570.195.03", "595.58.03"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
LEFT = f"ls -d /usr/bin/nvidia-uninstall {LIBRARY}* /var/cache/forja-nvidia-grid* /etc/modprobe.d/forja-nvidia-driver.conf"


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    """The VM without a driver; the role asks the mirror what Azure would tell."""
    told = json.dumps(build.load(ROOT / f"tests/lab/machines/{MACHINE}/machine.yml")["imds"])
    with machine([HOST], MACHINE, tmp_path_factory.mktemp("inventory")) as found:
        found.on(f"mkdir -p {IMDS} && printf '%s' '{told}' > {IMDS}/compute", host="mirror")
        found.facts["gpu_detect_imds_endpoint"] = "http://mirror.forja.test"
        found.undo.append(("mirror", "rm -r /srv/imds"))
        found.on(f"mkdir -p {TREE}/sys/module/nouveau")
        yield found


@pytest.fixture
def releases(vm: Drivers) -> dict[str, dict[str, str]]:
    """What the site's inventory says of the two releases."""
    found: dict[str, dict[str, str]] = json.loads(vm.on("cat /srv/lab.json", host="mirror"))["variables"]["nvidia_driver_grid_releases"]
    return found


@pytest.fixture
def none(vm: Drivers) -> None:
    if not vm.bare:
        vm.run(state="absent")


def test_the_metadata_service_wants_its_header(vm: Drivers) -> None:
    address = "http://mirror.forja.test/metadata/instance/compute?api-version=2021-02-01"
    assert vm.on(f"curl -s -o /dev/null -w '%{{http_code}}' '{address}'") == "400"
    assert "standard_nv6ads_a10_v5" in vm.on(f"curl -s -H Metadata:true '{address}'")


@pytest.mark.deep
@pytest.mark.usefixtures("none")
def test_comes_stays_and_goes(vm: Drivers) -> None:
    """Azure's size wants R570, which nobody has to name."""
    assert min(vm.run(check=True).values()) > 0
    assert vm.on(LEFT, check=False) == "", "the check changed the host"
    vm.run()
    assert vm.on(f"readlink {LIBRARY}.1") == f"libnvidia-ml.so.{OLD}"
    # The true installer aborts where nouveau is in use.
    options = "--silent --dkms --kernel-module-type=open --no-nouveau-check --skip-module-load"
    assert options in vm.on("cat /var/log/nvidia-installer.log")
    settings = vm.on("cat /etc/nvidia/gridd.conf").splitlines()
    assert {"IgnoreSP=FALSE", "EnableUI=FALSE"} <= set(settings)
    assert not any("FeatureType" in line for line in settings)
    assert "blacklist nouveau" in vm.on("cat /etc/modprobe.d/forja-nvidia-driver.conf")
    assert set(vm.run().values()) == {0}
    assert "Leave nvidia_driver_source at auto." in vm.refuses(source="nvidia")
    assert min(vm.run(state="absent").values()) > 0
    assert vm.on(LEFT, check=False) == ""
    assert set(vm.run(state="absent").values()) == {0}


@pytest.mark.usefixtures("none")
def test_wrong_checksum(vm: Drivers, releases: dict[str, dict[str, str]]) -> None:
    wrong = {OLD: {**releases[OLD], "sha256": "0" * 64}}
    told = vm.refuses(grid_releases=wrong)
    assert "did not match" in told
    assert "0" * 64 in told
    assert vm.on(LEFT, check=False) == "", "something of a wrong file is left"


@pytest.mark.usefixtures("none")
def test_killed_in_the_installer(vm: Drivers) -> None:
    """A `ln` that never ends stands in for the moment: the libraries are there, and nothing says that the rest is."""
    vm.on("printf '#!/bin/sh\\ntouch /run/installing; exec sleep 600\\n' > /usr/local/bin/ln; chmod +x /usr/local/bin/ln")
    try:
        vm.kill_when(vm.start_role(), lambda: vm.on("ls /run/installing", check=False) != "")
    finally:
        vm.on("pkill -x -f 'sleep 600'; rm -f /usr/local/bin/ln /run/installing", check=False)
    assert vm.on(f"ls {LIBRARY}.{OLD}") != ""
    assert vm.on(f"ls {LIBRARY}.1", check=False) == ""
    assert min(vm.run().values()) > 0
    assert vm.on(f"readlink {LIBRARY}.1") == f"libnvidia-ml.so.{OLD}"
    assert vm.on("ls /var/cache/forja-nvidia-grid*", check=False) == ""
    assert set(vm.run().values()) == {0}


def broken(vm: Drivers, release: dict[str, str]) -> dict[str, str]:
    """The entry of a release whose installer fails at its end."""
    folder, name = "/srv/mirror/download.microsoft.com/download/standin", release["url"].rpartition("/")[2]
    vm.on(f"sed 's/^ln .*/echo it does not fit this kernel >\\&2; exit 1/' {folder}/{name} > {folder}/broken.run", host="mirror")
    checksum = vm.on(f"sha256sum {folder}/broken.run", host="mirror").split()[0]
    return {"url": "https://download.microsoft.com/download/standin/broken.run", "sha256": checksum}


@pytest.mark.deep
def test_an_installer_that_fails_leaves_the_former_release(vm: Drivers, releases: dict[str, dict[str, str]]) -> None:
    if OLD not in vm.on(f"readlink {LIBRARY}.1", check=False):
        vm.run()
    told = vm.refuses(version=NEW, grid_releases={**releases, NEW: broken(vm, releases[NEW])})
    assert "it does not fit this kernel" in told
    assert f"The former release {OLD} is back." in told
    assert vm.on(f"readlink {LIBRARY}.1") == f"libnvidia-ml.so.{OLD}"
    assert min(vm.run(version=NEW).values()) > 0
    assert vm.on(f"readlink {LIBRARY}.1") == f"libnvidia-ml.so.{NEW}"
    assert set(vm.run().values()) == {0}, "without the pin it went back"


@pytest.mark.deep
def test_an_installer_that_fails_with_no_way_back(vm: Drivers, releases: dict[str, dict[str, str]]) -> None:
    """The inventory has forgotten where the former release is: then nouveau is better than nothing."""
    if NEW not in vm.on(f"readlink {LIBRARY}.1", check=False):
        vm.run(version=NEW)
    told = vm.fails(vm.start_role(version=OLD, grid_releases={OLD: broken(vm, releases[OLD])}))
    assert "Nothing of the driver is left here." in told
    assert vm.on(LEFT, check=False) == "", "nouveau is still kept from loading"
