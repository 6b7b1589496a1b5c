"""Faults on a provisioned host of molecule's lab: what breaks a run must lose nothing and say what to do."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# The tests' own lab, or another one, such as that of `make site`: FORJA_LAB=lab FORJA_INVENTORY=inventories/lab
LAB = os.environ.get("FORJA_LAB") or yaml.safe_load((ROOT / "tests/lab/instances/molecule.yml").read_text())["lab_name"]
INVENTORY = ROOT / os.environ.get("FORJA_INVENTORY", "molecule/inventory")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    played = re.findall(r"^FAULTS := (.+)$", (ROOT / "Makefile").read_text(), re.M)[0].split()
    for item in [item for item in items if item.path.is_relative_to(Path(__file__).parent)]:
        mark = item.get_closest_marker("host")
        if mark is None or mark.kwargs["name"] not in played:
            raise pytest.UsageError(f"{item.nodeid} needs the mark host, with a name that the Makefile's FAULTS has")
        if item.get_closest_marker("deep") is None:
            item.add_marker(pytest.mark.core)


class Lab:
    """A host of the lab, the mirror beside it, and runs of Ansible against them."""

    def __init__(self, name: str, inventory: Path = INVENTORY) -> None:
        self.name, self.inventory = name, inventory

    def on(self, command: str, *, host: str = "", check: bool = True) -> str:
        """Runs a shell command as root on the host; returns what it printed."""
        done = subprocess.run(["docker", "exec", f"forja-{LAB}-{host or self.name}", "sh", "-c", command],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*argv, f"--inventory={self.inventory}", f"--limit={self.name}"], cwd=ROOT, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def role(self, role: str | list[str], *, check: bool = False, **variables: object) -> subprocess.Popen[str]:
        return self.start("ansible-playbook", "tests/faults/role.yml", f"--extra-vars={json.dumps({'role': role, **variables})}",
                          *(["--check"] if check else []))

    def passes(self, run: subprocess.Popen[str]) -> str:
        output, _ = run.communicate(timeout=300)
        assert run.returncode == 0, output
        return output

    def fails(self, run: subprocess.Popen[str]) -> str:
        """The output of a run that must fail, its line breaks and indents folded so that sentences can be found."""
        output, _ = run.communicate(timeout=300)
        assert run.returncode == 2, output
        return " ".join(output.split())

    def kill_when(self, run: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
        """Kills the run here and on the host, as a power cut would, once `reached` is true."""
        for _ in range(600):
            if reached():
                break
            assert run.poll() is None, f"the run ended before it could be killed:\n{run.communicate()[0]}"
            time.sleep(0.1)
        else:
            pytest.fail("the moment to kill the run never came")
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        self.on("pkill -KILL -u admin; pkill -KILL -u root python3; pkill -KILL -u root -x tar; true")

    def answers(self) -> str:
        """The version that the running service reports, empty if it does not answer."""
        return self.on("curl --silent --max-time 2 http://127.0.0.1:11434/api/version", check=False)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The file's HOST, as molecule has provisioned it."""
    return Lab(request.module.HOST)


@pytest.fixture
def slow_mirror(lab: Lab) -> Iterator[None]:
    lab.on("echo 'limit_rate 4m;' > /etc/nginx/conf.d/slow.conf && nginx -s reload", host="mirror")
    yield
    lab.on("rm -f /etc/nginx/conf.d/slow.conf && nginx -s reload", host="mirror")


@contextmanager
def without_mirror(lab: Lab) -> Iterator[None]:
    """The mirror is out of this host's reach; tests of other hosts go on with it."""
    route = "unreachable $(getent ahostsv4 mirror.forja.test | cut -d' ' -f1 | head -n1)"
    lab.on(f"ip route add {route}")
    try:
        yield
    finally:
        lab.on(f"ip route delete {route}")


@pytest.fixture
def no_mirror(lab: Lab) -> Iterator[None]:
    with without_mirror(lab):
        yield
