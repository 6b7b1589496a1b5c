"""Open WebUI through failed upgrades, wrong digests and open ports: users and chats survive, and nobody else gets in."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .conftest import INVENTORY, Lab

HOST = "ws13"
pytestmark = pytest.mark.host(name=HOST)
NEIGHBOR = "ws12"
DATA = "/var/lib/docker/volumes/open-webui/_data"
BACKUPS = "/var/backups/forja/open-webui"
PAGE = "http://127.0.0.1:3000"
# A SYN to the neighbor's 127.0.0.1, as only a raw socket sends it: interface, address of the target, port.
SYN = """
import socket, struct, sys
target, port = sys.argv[1], int(sys.argv[2])
socket.create_connection((target, 22), 3).close()
line = [line.split() for line in open("/proc/net/arp") if line.startswith(target + " ")][0]
mac, name = bytes.fromhex(line[3].replace(":", "")), line[5]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0800)
raw.bind((name, 0))
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect((target, 9))
ours, loop = socket.inet_aton(probe.getsockname()[0]), socket.inet_aton("127.0.0.1")
def total(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    return ~words & 0xFFFF
tcp = [40000, port, 1, 0, 0x5002, 64240, 0, 0]
tcp[6] = total(ours + loop + struct.pack("!BBH", 0, 6, 20) + struct.pack("!HHIIHHHH", *tcp))
ip = [0x45, 0, 40, 1, 0, 64, 6, 0, ours, loop]
ip[7] = total(struct.pack("!BBHHHBBH4s4s", *ip))
raw.send(mac + raw.getsockname()[4] + b"\\x08\\x00" + struct.pack("!BBHHHBBH4s4s", *ip) + struct.pack("!HHIIHHHH", *tcp))
"""


def inventory() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["lab"]["vars"]
    return found


def digest(version: str) -> dict[str, Any]:
    return {"open_webui_digest": inventory()["lab_open_webui"][version], "open_webui_tag": f"v{version}-slim"}


def database(lab: Lab, query: str) -> str:
    return lab.on(f'python3 -c "import sqlite3; print(sqlite3.connect(\'{DATA}/webui.db\').execute(\\"{query}\\").fetchall())"')


def users(lab: Lab) -> str:
    return database(lab, "SELECT id, email, role FROM user")


def address_of(lab: Lab, name: str) -> str:
    return lab.on(f"getent ahostsv4 {name}.forja.test | cut -d' ' -f1 | head -n1", host="mirror")


def container(lab: Lab) -> str:
    return lab.on("docker inspect --format '{{.Id}} {{.State.StartedAt}}' open-webui", check=False)


def settled(lab: Lab) -> bool:
    names = lab.on("docker ps --all --format '{{.Names}}'", check=False).split()
    port = lab.on("docker port open-webui 8080/tcp", check=False)
    image = lab.on("docker inspect --format '{{.Config.Image}}' open-webui", check=False)
    right = "open-webui" in names and "open-webui-previous" not in names and port == "127.0.0.1:3000"
    right = right and image.endswith(str(digest("0.12.4")["open_webui_digest"]))
    return right and "true" in lab.on(f"curl --silent --max-time 5 {PAGE}/health", check=False)


@pytest.fixture(autouse=True)
def _begins_as_provisioned(lab: Lab) -> Iterator[None]:
    if not settled(lab):
        lab.passes(lab.role("open_webui"))
    yield
    if not settled(lab):
        output = lab.passes(lab.role("open_webui"))
        assert settled(lab), output


def test_failed_migration_brings_container_and_database_back(lab: Lab) -> None:
    """The stand-in's migration writes into the database before it fails; the program may end by that, or answer all the same."""
    before, known = container(lab).split()[0], users(lab)
    output = lab.fails(lab.role("open_webui", **digest("0.12.6")))
    assert re.search("this migration of the Forja lab's stand-in fails|a migration failed, although the program answers", output)
    assert "The previous container runs again, with its database as it was." in output
    assert container(lab).split()[0] == before, "it is the previous container itself, with all of its settings"
    assert users(lab) == known
    assert database(lab, "SELECT name FROM sqlite_master WHERE name = 'forja_standin'") == "[]"
    assert lab.on(f"ls {BACKUPS}/pending.json", check=False) == ""


def test_wrong_digest_leaves_the_running_container_alone(lab: Lab) -> None:
    before = container(lab)
    wrong = f"sha256:{'0' * 64}"
    assert wrong in lab.fails(lab.role("open_webui", open_webui_digest=wrong))
    assert "64 hexadecimal digits" in lab.fails(lab.role("open_webui", open_webui_digest="sha256:abc"))
    assert container(lab) == before


def test_loopback_is_closed_to_neighbors_of_an_old_engine(lab: Lab) -> None:
    address = address_of(lab, HOST)
    dropped = lab.on("nft list chain inet forja_open_webui guard | grep drop")
    lab.on(f"cat > /tmp/syn.py <<'END'\n{SYN}\nEND\npython3 /tmp/syn.py {address} 3000 && rm /tmp/syn.py", host=NEIGHBOR)
    assert lab.on("nft list chain inet forja_open_webui guard | grep drop") != dropped


def test_removed_by_hand_and_published_for_one_neighbor(lab: Lab) -> None:
    """Published ports never pass the host's INPUT rules; the fence stands where they do pass."""
    known, address = users(lab), address_of(lab, HOST)
    friend = address_of(lab, NEIGHBOR)
    lab.on("docker rm --force open-webui")
    lab.passes(lab.role("open_webui", open_webui_listen="0.0.0.0:3000", open_webui_allowed_sources=[friend]))
    assert users(lab) == known
    page = f"curl --silent --max-time 5 --output /dev/null --write-out '%{{http_code}}' http://{address}:3000/health"
    assert lab.on(page, host=NEIGHBOR) == "200"
    assert lab.on(page, host="mirror", check=False) == "000"
    assert lab.on(page) == "200", "this host itself"
    # A restart of the firewall flushes every table; Docker's rules are lost with it, and come back with the engine. Those by which the
    # lab's own engine answers for names do not: they are kept and put back.
    lab.on(r"iptables-save --table nat | grep -E '^\*|^COMMIT|DOCKER_(OUTPUT|POSTROUTING)' > /root/names")
    try:
        lab.on("systemctl restart nftables.service; systemctl restart docker.service")
    finally:
        lab.on("iptables-restore --noflush /root/names; rm /root/names")
    assert lab.on(page, host="mirror", check=False) == "000"


@pytest.mark.deep
def test_upgrade_and_restore_of_the_backup_from_before(lab: Lab) -> None:
    known = users(lab)
    lab.passes(lab.role("open_webui", **digest("0.12.5")))
    assert users(lab) == known
    assert database(lab, "SELECT name FROM sqlite_master WHERE name = 'forja_standin'") != "[]"
    # The old program does not know the new database, and says so instead of working with it.
    assert "The previous container runs again" in lab.fails(lab.role("open_webui"))
    archive = lab.on(f"ls {BACKUPS}/*.tar | tail -n 2 | head -n 1")
    run = lab.start("ansible-playbook", "playbooks/operations/open_webui_restore.yml", f"--extra-vars=open_webui_restore_from={archive}")
    lab.passes(run)
    assert settled(lab)
    assert users(lab) == known


@pytest.mark.deep
def test_killed_in_an_upgrade(lab: Lab) -> None:
    """The next run goes on with the backup from before."""
    known = users(lab)
    run = lab.role("open_webui", **digest("0.12.6"))
    lab.kill_when(run, lambda: "open-webui-previous" in lab.on("docker ps --all --format '{{.Names}}'"))
    lab.passes(lab.role("open_webui"))
    assert users(lab) == known
    assert database(lab, "SELECT name FROM sqlite_master WHERE name = 'forja_standin'") == "[]"


@pytest.mark.deep
def test_backup_without_a_running_container(lab: Lab) -> None:
    count = len(lab.on(f"ls {BACKUPS}", check=False).split())
    lab.on("docker stop open-webui")
    lab.passes(lab.start("ansible-playbook", "playbooks/operations/open_webui_backup.yml"))
    assert len(lab.on(f"ls {BACKUPS}").split()) == min(count + 1, 5)
    assert lab.on(f"stat --format %a {BACKUPS}") == "700"
