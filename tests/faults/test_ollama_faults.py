"""Ollama through kills, wrong archives, taken ports, settings of the host's owner, and away again: what worked before works after."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

HOST = "ws12"
pytestmark = pytest.mark.host(name=HOST)
OLD, NEW = "0.32.7", "0.32.9"
RELEASES = "/opt/forja/ollama"
UNIT = "/etc/systemd/system/ollama.service"
OVERRIDE = f"{UNIT}.d/override.conf"


@pytest.fixture(autouse=True)
def _begins_with_old(lab: Lab) -> Iterator[None]:
    """Each test begins and ends with the old release running, and has lost no model."""
    if not settled(lab):
        lab.passes(lab.role("ollama", ollama_version=OLD))
    yield
    lab.on(f"rm -f {OVERRIDE}")
    if not settled(lab):
        output = lab.passes(lab.role("ollama", ollama_version=OLD))
        assert settled(lab), output


def settled(lab: Lab) -> bool:
    """Whether the old release alone is there, and runs with the role's own settings."""
    unit = lab.on("systemctl show ollama.service --property=Environment,NeedDaemonReload", check=False)
    right = OLD in lab.answers() and lab.on(f"ls {RELEASES}", check=False) == OLD and "llama3.2:1b" in lab.on("ollama list", check=False)
    return right and "OLLAMA_HOST=127.0.0.1:11434" in unit and "NeedDaemonReload=no" in unit and "KEEP_ALIVE" not in unit


def started(lab: Lab) -> str:
    return lab.on("systemctl show ollama --property=ExecMainStartTimestampMonotonic,MainPID")


# Releases

@pytest.mark.usefixtures("slow_mirror")
def test_upgrade_killed_in_the_download_then_downgrade(lab: Lab) -> None:
    run = lab.role("ollama", ollama_version=NEW)
    lab.kill_when(run, lambda: int(lab.on(f"du -s {RELEASES}/.partial 2>/dev/null | cut -f1", check=False) or 0) > 4096)
    assert not lab.on(f"ls {RELEASES}/{NEW}", check=False), "half a release became visible"
    assert OLD in lab.answers()
    lab.passes(lab.role("ollama", ollama_version=NEW))
    assert NEW in lab.answers()
    assert lab.on(f"ls -A {RELEASES}") == NEW, "leftovers of the killed run"
    lab.passes(lab.role("ollama", ollama_version=OLD))
    assert OLD in lab.answers()


@pytest.mark.deep
def test_killed_while_unpacking(lab: Lab) -> None:
    """A tar that stops half-way stands in for the moment, which would be too short to hit."""
    lab.on("""rm -f /tmp/unpacking; cat > /usr/local/bin/tar <<'END'
#!/bin/sh
case "$*" in
*-x*|*--extract*) timeout -s KILL 0.05 /usr/bin/tar "$@"; touch /tmp/unpacking; sleep 60 ;;
*) exec /usr/bin/tar "$@" ;;
esac
END
chmod +x /usr/local/bin/tar""")
    try:
        lab.kill_when(lab.role("ollama", ollama_version=NEW), lambda: lab.on("ls /tmp/unpacking", check=False) != "")
    finally:
        lab.on("rm -f /usr/local/bin/tar /tmp/unpacking")
    assert not lab.on(f"ls {RELEASES}/{NEW}", check=False), "half a release became visible"
    lab.passes(lab.role("ollama", ollama_version=NEW))
    assert NEW in lab.answers()
    question = json.dumps({"model": "llama3.2:1b", "prompt": "hi", "stream": False})
    assert "llama.cpp runs me" in lab.on(f"curl --silent http://127.0.0.1:11434/api/generate -d '{question}'"), "a part is missing"


def test_wrong_checksum(lab: Lab) -> None:
    output = lab.fails(lab.role("ollama", ollama_version=NEW, ollama_checksums={NEW: {"amd64": "0" * 64, "arm64": "0" * 64}}))
    assert "0" * 64 in output
    assert lab.on(f"find {RELEASES} -name '*.zst'") == "", "a wrong archive was kept"
    assert OLD in lab.answers()


@pytest.mark.deep
@pytest.mark.usefixtures("no_mirror")
def test_mirror_down(lab: Lab) -> None:
    assert "mirror.forja.test" in lab.fails(lab.role("ollama", ollama_version=NEW))
    assert OLD in lab.answers()
    lab.passes(lab.role("ollama", ollama_version=OLD))  # What is installed needs no mirror.


def test_disk_full(lab: Lab) -> None:
    lab.on(f"mkdir -p {RELEASES}/.partial && mount -t tmpfs -o size=8m tmpfs {RELEASES}/.partial")
    try:
        assert f"{RELEASES}/.partial has 8 MiB free" in lab.fails(lab.role("ollama", ollama_version=NEW))
    finally:
        lab.on(f"umount {RELEASES}/.partial && rmdir {RELEASES}/.partial")
    assert OLD in lab.answers()


def test_release_that_does_not_start_is_taken_back(lab: Lab) -> None:
    """The error carries the service's own words, and the release that worked runs again with its settings."""
    program = f"{RELEASES}/{NEW}/bin/ollama"
    before = lab.on(f"cat {UNIT} {UNIT}.d/forja.conf")
    lab.on(f"mkdir -p {RELEASES}/{NEW}/bin && printf '#!/bin/sh\\necho I cannot run here; exit 3\\n' > {program} && chmod +x {program}")
    output = lab.fails(lab.role("ollama", ollama_version=NEW, ollama_host="0.0.0.0:11500"))
    assert "I cannot run here" in output
    assert "The previous settings are restored and ollama.service runs with them." in output
    assert OLD in lab.answers()
    assert lab.on(f"cat {UNIT} {UNIT}.d/forja.conf") == before
    assert "forja_ollama" not in lab.on("nft list tables"), "the fence of the settings that failed was left"
    lab.on(f"rm -r {RELEASES}/{NEW}")


# What is refused leaves the running service alone

def test_refused_before_anything_changes(lab: Lab) -> None:
    """The same words in a check and in a run, and a process that goes on."""
    lab.on("mkdir -p /home/admin/closed/ollama && chmod 0700 /home/admin/closed && mkdir -p /srv/photos && touch /srv/photos/cat.jpg")
    before = started(lab)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"ollama_version": "0.18.0"}, ["older than 0.20.3"]),
        ({"ollama_host": "http://0.0.0.0", "ollama_users": "nobody-here", "ollama_environment": {"OLLAMA_HOST": "::"},
          "ollama_models": "llama 3.2"}, ["Leave out the scheme", "Use ollama_host", 'Did you mean "llama3.2"']),
        ({"ollama_allowed_sources": "192.168.1.300"}, ["ollama_allowed_sources: '192.168.1.300' is not valid"]),
        ({"ollama_models_dir": "/home/admin/closed/ollama"}, ["cannot be reached by the user ollama: /home/admin/closed (mode 0700"]),
        ({"ollama_models_dir": "/srv/photos"}, ["files that are not Ollama's (cat.jpg)", "/srv/photos/ollama"]),
    ]
    for variables, sentences in cases:
        output = lab.fails(lab.role("ollama", check=len(variables) == 1, **variables))
        assert [sentence for sentence in sentences if sentence not in output] == [], output
    assert started(lab) == before
    assert lab.on("stat -c '%U %a' /srv/photos /home/admin/closed") == "root 755\nroot 700"
    lab.on("rm -r /home/admin/closed /srv/photos")


def test_models_that_run_on_the_cpu_are_a_problem(lab: Lab) -> None:
    """An id of a card that is not there hides all of them."""
    roles = ["gpu_detect", "ollama"]
    try:
        output = " ".join(lab.passes(lab.role(roles, ollama_environment={"CUDA_VISIBLE_DEVICES": "-1"})).split())
        assert "problem: llama3.2:1b runs on the CPU" in output
    finally:
        output = lab.passes(lab.role(roles))
    assert "runs on the CPU" not in output


def test_models_are_chosen_by_the_card_and_the_choice_is_kept(lab: Lab) -> None:
    catalogue = [{"name": "llama3.2:3b", "purpose": "chat", "gb": 2.0, "cache_kib": 112},
                 {"name": "smollm:135m", "purpose": "chat", "gb": 0.1, "cache_kib": 8}]
    wish: dict[str, Any] = {"ollama_models": "auto", "ollama_catalogue": catalogue, "ollama_memory_mib": 8188}
    try:
        assert "models: llama3.2:3b" in lab.passes(lab.role("ollama", **wish))
        assert "OLLAMA_CONTEXT_LENGTH=32768" in lab.on("systemctl show ollama.service --property=Environment --value")
        assert "changed=0" in lab.passes(lab.role("ollama", **{**wish, "ollama_catalogue": catalogue[1:]}))
        assert "models: smollm:135m" in lab.passes(lab.role("ollama", **{**wish, "ollama_memory_mib": 2048}))
    finally:
        lab.on("rm -f /var/lib/forja/ollama-choice.json")
        lab.passes(lab.role("ollama", ollama_models=[{"name": entry["name"], "state": "absent"} for entry in catalogue]))
        lab.passes(lab.role("ollama"))


def test_port_taken_by_hand(lab: Lab) -> None:
    lab.on("systemctl stop ollama; setsid ollama serve >/dev/null 2>&1 </dev/null & sleep 1")
    stranger = lab.on("ss -Hltnp 'sport = :11434' | grep -o 'pid=[0-9]*' | head -1 | cut -d= -f2")
    try:
        output = lab.fails(lab.role("ollama"))
        assert f"process {stranger} of the user root" in output
        assert "ollama serve" in output
        assert lab.on("systemctl is-active ollama", check=False) == "inactive", "the service was started against the port's holder"
    finally:
        lab.on(f"kill {stranger}")


# What is effective decides

def test_former_installation_with_its_own_settings_is_taken_over(lab: Lab) -> None:
    """Upstream's program, libraries and unit, and the owner's override.conf: the fence and the folder follow it, the models stay."""
    lab.passes(lab.role("ollama", ollama_state="absent"))
    lab.on(f"""mkdir -p /usr/local/lib/ollama/cuda_v12 {UNIT}.d /data/models && echo old > /usr/local/lib/ollama/cuda_v12/libold.so
printf '#!/bin/sh\nexec sleep infinity\n' > /usr/local/bin/ollama && chmod +x /usr/local/bin/ollama
printf '[Service]\nExecStart=/usr/local/bin/ollama serve\n[Install]\nWantedBy=default.target\n' > {UNIT}
printf '[Service]\nEnvironment="OLLAMA_HOST=0.0.0.0:8080" OLLAMA_MODELS=/data/models\n' > {OVERRIDE}
systemctl daemon-reload && systemctl enable --now ollama""")
    output = lab.passes(lab.role("ollama", ollama_models=[]))
    assert OVERRIDE in output
    assert "at 0.0.0.0:8080, fenced" in output
    assert OLD in lab.on("curl --silent http://127.0.0.1:8080/api/version")
    assert "tcp dport 8080 jump guard" in lab.on("nft list table inet forja_ollama")
    assert lab.on("stat -c %U /data/models /data/models/blobs").split() == ["ollama", "ollama"]
    assert lab.on("ls /usr/local/lib/ollama", check=False) == ""
    assert lab.on("readlink /usr/local/bin/ollama") == f"{RELEASES}/{OLD}/bin/ollama"
    lab.on(f"rm -r {OVERRIDE} /data/models")


def test_rules_that_another_program_flushed_come_back(lab: Lab) -> None:
    lab.passes(lab.role("ollama", ollama_host="0.0.0.0:11500"))
    assert "llama3.2:1b" in lab.on("bash --login -c 'ollama list'"), "the command does not find the service at its port"
    before = started(lab)
    lab.on("nft delete table inet forja_ollama")
    assert "changed=1 " in lab.passes(lab.role("ollama", ollama_host="0.0.0.0:11500"))
    assert "tcp dport 11500 jump guard" in lab.on("nft list table inet forja_ollama")
    assert started(lab) == before, "rules need no restart"


@pytest.mark.deep
def test_interrupted_restart_is_made_up_for(lab: Lab) -> None:
    """Settings that were written but never came into force, because the run was killed before the restart."""
    lab.on(f"sed -i 's/^.Service.$/[Service]\\nEnvironment=OLLAMA_KEEP_ALIVE=1h/' {UNIT}.d/forja.conf && systemctl daemon-reload")
    before = started(lab)
    lab.passes(lab.role("ollama", ollama_environment={"OLLAMA_KEEP_ALIVE": "1h"}))
    assert started(lab) != before
    assert "KEEP_ALIVE=1h" in lab.on("tr '\\0' '\\n' < /proc/$(systemctl show ollama --property=MainPID --value)/environ")


# Away and back

def changed_tasks(output: str) -> list[str]:
    return re.findall(r"^TASK \[ollama : (.+?)\] \**\n(?:(?!TASK|PLAY).*\n)*?changed:", output, re.M)


@pytest.mark.deep
def test_absent_leaves_the_models_to_the_next_user(lab: Lab) -> None:
    """Another user takes the freed uid in between; a check on the bare host predicts the run, task by task."""
    lab.passes(lab.role("ollama", ollama_host="0.0.0.0:11500"))
    output = lab.passes(lab.role("ollama", ollama_state="absent"))
    assert "its models stay in /usr/share/ollama/.ollama/models" in output
    left = lab.on(f"ls -d {RELEASES} /usr/local/bin/ollama {UNIT}* /etc/ollama-fence.nft /etc/systemd/system/nftables.service.d "
                  "/etc/profile.d/forja-ollama.sh 2>/dev/null; getent passwd ollama; getent group ollama; "
                  "nft list tables | grep forja", check=False)
    assert left == ""
    assert "changed=0" in lab.passes(lab.role("ollama", ollama_state="absent"))
    lab.on("useradd --system --uid $(stat -c %u /usr/share/ollama/.ollama/models) stranger; groupadd --system ollama")
    try:
        predicted = changed_tasks(lab.passes(lab.role("ollama", check=True)))
        assert lab.on(f"ls {RELEASES} {UNIT}", check=False) == "", "the check changed the host"
        done = changed_tasks(lab.passes(lab.role("ollama")))
        # The models are there: only the server that a check cannot ask knows.
        assert [task for task in predicted if task != "Pull or remove the models"] == done
        assert "ollama" in lab.on("id -gn ollama")
        assert lab.on("find /usr/share/ollama/.ollama -user stranger") == ""
        assert "llama3.2:1b" in lab.on("ollama list")
    finally:
        lab.on("userdel stranger")


@pytest.mark.deep
def test_purge_leaves_the_mount_and_the_files_of_others(lab: Lab) -> None:
    """The folder's name has what a unit would read differently: a space and a percent sign."""
    folder = "/data/AI models, 100%"
    lab.on(f"mkdir -p '{folder}' && mount -t tmpfs -o size=400m tmpfs '{folder}'")
    try:
        lab.passes(lab.role("ollama", ollama_models_dir=folder))
        assert lab.on(f"ls '{folder}'").split() == ["blobs", "manifests"]
        lab.on(f"touch '{folder}/notes.txt'")
        lab.passes(lab.role("ollama", ollama_models_dir=folder, ollama_state="absent", ollama_purge_data="true"))
        assert lab.on(f"ls '{folder}'; mountpoint '{folder}'").split("\n") == ["notes.txt", f"{folder} is a mountpoint"]
        assert lab.on("ls /usr/share/ollama", check=False) == ""
    finally:
        lab.on(f"umount '{folder}'; rmdir '{folder}'")
