"""Ollama through upgrades, downgrades, kills, wrong archives, full disks, taken ports, and away again."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

HOST = "ws12"
pytestmark = pytest.mark.host(name=HOST)
OLD, NEW = "0.32.7", "0.32.9"
RELEASES = "/opt/forja/ollama"


@pytest.fixture(autouse=True)
def _begins_with_old(lab: Lab) -> Iterator[None]:
    """Each test begins and ends with the old release running, and has lost no model."""
    if OLD not in lab.answers():
        lab.passes(lab.role("ollama", ollama_version=OLD))
    before = lab.on("ollama list")
    assert "llama3.2:1b" in before
    yield
    output = lab.passes(lab.role("ollama", ollama_version=OLD))
    assert OLD in lab.answers(), output
    assert lab.on(f"ls {RELEASES}") == OLD
    assert "llama3.2:1b" in lab.on("ollama list")


def test_upgrade_then_downgrade(lab: Lab) -> None:
    lab.passes(lab.role("ollama", ollama_version=NEW))
    assert NEW in lab.answers()
    assert lab.on(f"ls {RELEASES}") == NEW
    lab.passes(lab.role("ollama", ollama_version=OLD))
    assert OLD in lab.answers()


@pytest.mark.usefixtures("slow_mirror")
def test_killed_in_the_download(lab: Lab) -> None:
    partial = f"{RELEASES}/{NEW}.partial"
    run = lab.role("ollama", ollama_version=NEW)
    lab.kill_when(run, lambda: int(lab.on(f"du -s {partial} 2>/dev/null | cut -f1", check=False) or 0) > 4096)
    assert not lab.on(f"ls {RELEASES}/{NEW}", check=False), "half a release became visible"
    assert OLD in lab.answers()
    lab.passes(lab.role("ollama", ollama_version=NEW))
    assert NEW in lab.answers()
    assert lab.on(f"ls {RELEASES}") == NEW, "leftovers of the killed run"


def test_killed_while_unpacking(lab: Lab) -> None:
    """A tar that stops half-way stands in for the moment, which would be too short to hit."""
    lab.on("""rm -f /tmp/unpacking; cat > /usr/local/bin/tar <<'END'
#!/bin/sh
case "$*" in
*--extract*) timeout -s KILL 0.05 /usr/bin/tar "$@"; touch /tmp/unpacking; sleep 60 ;;
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
    assert lab.on(f"stat -c %s {RELEASES}/{NEW}/lib/ollama/cuda_v13/libggml-cuda-standin.so") == "32000000"


def test_wrong_checksum(lab: Lab) -> None:
    output = lab.fails(lab.role("ollama", ollama_version=NEW, ollama_checksums={NEW: {"amd64": "0" * 64, "arm64": "0" * 64}}))
    assert "checksum" in output.lower()
    assert "0" * 64 in output
    assert lab.on(f"find {RELEASES} -name '*.zst'") == "", "a wrong archive was kept"
    assert OLD in lab.answers()


@pytest.mark.usefixtures("no_mirror")
def test_mirror_down(lab: Lab) -> None:
    output = lab.fails(lab.role("ollama", ollama_version=NEW))
    assert "mirror.forja.test" in output
    assert OLD in lab.answers()
    lab.passes(lab.role("ollama", ollama_version=OLD))  # What is installed needs no mirror.


def test_disk_full(lab: Lab) -> None:
    lab.on(f"mkdir -p {RELEASES}/{NEW}.partial && mount -t tmpfs -o size=8m tmpfs {RELEASES}/{NEW}.partial")
    try:
        assert "No space left" in lab.fails(lab.role("ollama", ollama_version=NEW))
    finally:
        lab.on(f"umount {RELEASES}/{NEW}.partial")
    assert OLD in lab.answers()
    lab.passes(lab.role("ollama", ollama_version=NEW))


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


def test_release_that_does_not_start(lab: Lab) -> None:
    """The error carries the service's own words."""
    program = f"{RELEASES}/{OLD}/bin/ollama"
    lab.on(f"mv {program} /root/ollama && printf '#!/bin/sh\\necho I cannot run here; exit 3\\n' > {program} && chmod +x {program}"
           " && systemctl stop ollama")
    try:
        assert "I cannot run here" in lab.fails(lab.role("ollama"))
    finally:
        lab.on(f"mv /root/ollama {program}; systemctl stop ollama")


@pytest.mark.parametrize(("variables", "said"), [
    ({"ollama_version": "0.17.0"}, "older than 0.17.1"),
    ({"ollama_version": "0.99.0"}, "No SHA-256 is known for Ollama 0.99.0"),
    ({"ollama_host": "http://0.0.0.0"}, "Leave out the scheme"),
    ({"ollama_host": "0.0.0.0:70000"}, "is not host, host:port"),
    ({"ollama_environment": {"OLLAMA_HOST": "::"}}, "Use ollama_host"),
    ({"ollama_models": [{"name": "llama 3.2"}]}, "llama3.2"),
])
def test_bad_settings_are_refused(lab: Lab, variables: dict[str, Any], said: str) -> None:
    assert said in lab.fails(lab.role("ollama", **variables))


def test_interrupted_restart_is_made_up_for(lab: Lab) -> None:
    """Settings that were written but never came into force, because the run was killed before the restart."""
    dropin = "/etc/systemd/system/ollama.service.d/forja.conf"
    lab.on(f"sed -i 's/^.Service.$/[Service]\\nEnvironment=OLLAMA_KEEP_ALIVE=1h/' {dropin} && systemctl daemon-reload")
    started = lab.on("systemctl show ollama --property=ActiveEnterTimestampMonotonic")
    lab.passes(lab.role("ollama", ollama_environment={"OLLAMA_KEEP_ALIVE": "1h"}))
    assert lab.on("systemctl show ollama --property=ActiveEnterTimestampMonotonic") != started
    assert "KEEP_ALIVE=1h" in lab.on("tr '\\0' '\\n' < /proc/$(systemctl show ollama --property=MainPID --value)/environ")


def test_former_installation_is_taken_over(lab: Lab) -> None:
    """What upstream's install script leaves: program, libraries and a unit of its own; the models stay."""
    lab.passes(lab.role("ollama", ollama_state="absent"))
    lab.on("""mkdir -p /usr/local/lib/ollama/cuda_v12 && echo old > /usr/local/lib/ollama/cuda_v12/libold.so
printf '#!/bin/sh\nexec sleep infinity\n' > /usr/local/bin/ollama && chmod +x /usr/local/bin/ollama
printf '[Service]\nExecStart=/usr/local/bin/ollama serve\n[Install]\nWantedBy=default.target\n' > /etc/systemd/system/ollama.service
systemctl daemon-reload && systemctl enable --now ollama""")
    lab.passes(lab.role("ollama"))
    assert OLD in lab.answers()
    assert lab.on("ls /usr/local/lib/ollama", check=False) == ""
    assert lab.on("readlink /usr/local/bin/ollama") == f"{RELEASES}/{OLD}/bin/ollama"


def changed_tasks(output: str) -> set[str]:
    return set(re.findall(r"^TASK \[ollama : (.+?)\] \**\n(?:(?!TASK|PLAY).*\n)*?changed:", output, re.M))


def test_check_predicts_the_run(lab: Lab) -> None:
    lab.passes(lab.role("ollama", ollama_state="absent"))
    predicted = changed_tasks(lab.passes(lab.role("ollama", check=True)))
    assert lab.on("ls /opt/forja/ollama /etc/systemd/system/ollama.service", check=False) == "", "the check changed the host"
    # One sentence of the check stands for what cannot be asked about before the service is there.
    told = {"Predict what a check on a bare host cannot ask about"}
    untold = {"Download the archive", "Unpack it", "Make it visible at once", "Remove the archive",
              "Have the service running with what was set"}
    assert changed_tasks(lab.passes(lab.role("ollama"))) - untold == predicted - told
    assert told < predicted


def test_absent_leaves_models_only(lab: Lab) -> None:
    lab.passes(lab.role("ollama", ollama_host="0.0.0.0", ollama_version=OLD))
    assert "forja_ollama" in lab.on("nft list tables")
    lab.passes(lab.role("ollama", ollama_state="absent"))
    left = lab.on("ls -d /opt/forja/ollama /usr/local/bin/ollama /etc/systemd/system/ollama.service* /etc/ollama-fence.nft "
                  "/etc/systemd/system/nftables.service.d 2>/dev/null; getent passwd ollama; nft list tables | grep forja", check=False)
    assert left == ""
    assert lab.on("ls /usr/share/ollama/.ollama/models/manifests") != ""
    assert "changed=0" in lab.passes(lab.role("ollama", ollama_state="absent"))
