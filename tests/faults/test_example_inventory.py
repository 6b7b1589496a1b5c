"""Hosts of one's own: a workstation with the variables of inventories/example, and what `make verify` says of it.

What the lab's inventory tells besides is not there: no digests, no addresses. Only where the site's servers are is said.
"""

import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from .conftest import INVENTORY, ROOT, Lab

HOST = "ws12"
pytestmark = pytest.mark.host(name=HOST)
# Where a site's servers are and what they are known by, and which image of Open WebUI they have; how to log in.
SITE = re.compile(r"forja_\w+|open_webui_(tag|digest)|ansible_\w+|\w+_checksums|\w+_fingerprints?|\w+_sha256|gpu_detect_root")


class Site(Lab):
    """The host as somebody's own, whose inventory is a copy of the example."""

    def play(self) -> str:
        return self.passes(self.start("ansible-playbook", "site.yml"))

    def verify(self) -> tuple[int, list[str]]:
        """Exit code and lines of `make verify`."""
        argv = ["make", "--no-print-directory", "verify", f"INVENTORY={self.inventory}"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    inventory = tmp_path_factory.mktemp("inventory")
    lab = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["lab"]
    host = lab["children"]["workstation"]["hosts"][HOST]
    told = {name: value for name, value in {**lab["vars"], **host}.items() if SITE.fullmatch(name)}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"workstation": {"hosts": {HOST: told}}}))
    (inventory / "group_vars").symlink_to(ROOT / "inventories/example/group_vars")
    found = Site(HOST, inventory)
    try:
        found.play()
        yield found
    finally:
        found.passes(Lab(HOST).start("ansible-playbook", "site.yml"))


def test_a_host_that_is_as_its_inventory_says_passes(site: Site) -> None:
    code, lines = site.verify()
    assert code == 0, "\n".join(lines)
    assert any(re.match(rf"{HOST}  ollama +ok, \d+ checks", line) for line in lines), lines


@pytest.mark.deep
def test_a_wish_for_loopback_passes_too(site: Site) -> None:
    hosts = site.inventory / "hosts.yml"
    before = hosts.read_text()
    told = yaml.safe_load(before)
    told["workstation"]["vars"] = {"workstation_ollama_host": "127.0.0.1:11434"}
    hosts.write_text(yaml.safe_dump(told))
    try:
        site.play()
        assert "changed=0" in site.play()
        code, lines = site.verify()
    finally:
        hosts.write_text(before)
    site.play()
    assert code == 0, "\n".join(lines)
    assert "127.0.0.1:11434" not in "\n".join(line for line in lines if "To do" in line)


def test_each_fault_is_named_in_one_line(site: Site) -> None:
    site.on("systemctl stop ollama; rm -f /etc/docker/daemon.json.before; cp /etc/docker/daemon.json /etc/docker/daemon.json.before")
    site.on("sed -i 's/\"live-restore\": true/\"live-restore\": false/' /etc/docker/daemon.json; nft delete table inet forja_ollama")
    try:
        code, lines = site.verify()
    finally:
        site.on("mv /etc/docker/daemon.json.before /etc/docker/daemon.json; systemctl start ollama")  # which loads its fence
    assert code != 0
    faults = [line for line in lines if "To do: ansible-playbook" in line]
    assert all(f"--limit {HOST} --tags" in line for line in faults)
    assert any(line.startswith(f"{HOST}  ollama ") and "is_running" in line for line in faults), lines
    assert any(line.startswith(f"{HOST}  docker ") and "live-restore" in line for line in faults), lines
    assert any(line.startswith(f"{HOST}  ollama ") and "without its fence" in line for line in faults), lines
    assert len(lines) < len(faults) + 15, "\n".join(lines)
