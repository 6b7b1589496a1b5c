"""The driver on Debian 12 and 13 at once: check, install, second run, upgrade, downgrade, away again, from two sources.

Debian's packages are the real ones; NVIDIA's repository is the mirror's, whose packages have true names and no content. The hosts
have no kernel of their own, so no module is built here: `make test-slow` does that.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.machines import build

from .conftest import INVENTORY, ROOT, Lab

HOSTS = ("ws12", "ws13")
MACHINE = "/srv/driver-machine"


class Drivers(Lab):
    """Both hosts, as an inventory group whose variables say which driver is wanted."""

    def __init__(self, inventory: Path) -> None:
        super().__init__(",".join(HOSTS), inventory)
        for part in INVENTORY.iterdir():
            (inventory / part.name).symlink_to(part.resolve())

    def run(self, *, check: bool = False, **wish: object) -> dict[str, int]:
        """Runs the role; returns how many tasks changed something on each host."""
        wanted = {f"nvidia_driver_{key}": value for key, value in wish.items()}
        group = {"nvidia_driver": {"hosts": dict.fromkeys(HOSTS, {}), "vars": wanted}}
        (self.inventory / "wish.yml").write_text(json.dumps(group))
        output = self.passes(self.role("nvidia_driver", check=check, gpu_detect_root=MACHINE, **wanted))
        return {name: int(changed) for name, changed in re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", output, re.M)}

    def witness(self) -> None:
        """The host tests of the role, against what the last run was asked for."""
        done = subprocess.run(["pytest", "tests/hosts/test_nvidia_driver.py", "--hosts=ansible://nvidia_driver",
                               f"--ansible-inventory={self.inventory}"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    """Hosts whose machine has an H200 and no driver yet."""
    tree = tmp_path_factory.mktemp("machine") / "tree"
    build.build(build.load(ROOT / "tests/lab/machines/h200-vm/machine.yml"), tree)
    archive = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
    for host in HOSTS:
        unpack = ["docker", "exec", "-i", f"forja-molecule-{host}", "sh", "-c", f"mkdir -p {MACHINE} && tar -C {MACHINE} -x"]
        subprocess.run(unpack, input=archive, check=True)
    found = Drivers(tmp_path_factory.mktemp("inventory"))
    yield found
    found.run(state="absent")


@pytest.mark.parametrize("wish", [
    pytest.param({"source": "distribution", "allow_ended": True}, id="debian"),
    pytest.param({"source": "nvidia", "version": "595.58.03"}, id="nvidia"),
])
def test_comes_stays_and_goes(drivers: Drivers, wish: dict[str, Any]) -> None:
    predicted = drivers.run(check=True, **wish)
    assert drivers.run(**wish) == predicted, "the check predicted another number of changes"
    assert min(predicted.values()) > 0
    assert set(drivers.run(**wish).values()) == {0}
    drivers.witness()
    drivers.run(state="absent")
    assert set(drivers.run(state="absent").values()) == {0}
    drivers.witness()


def test_upgrade_and_downgrade(drivers: Drivers) -> None:
    for version in ("595.58.03", "595.71.05", "580.95.05"):
        assert min(drivers.run(source="nvidia", version=version).values()) > 0
        drivers.witness()
