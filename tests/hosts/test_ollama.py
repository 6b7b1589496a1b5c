"""Ollama: installed whole, running with what was asked, reachable for whom it should be and for nobody else."""

import json
import re
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.role("ollama"), pytest.mark.journal("ollama.service")]


class Endpoint(NamedTuple):
    """Where the inventory wants the service to listen."""

    host: str
    port: int

    @property
    def open(self) -> bool:
        return not re.match(r"127\.|localhost$|\[::1\]$", self.host)

    @property
    def url(self) -> str:
        return f"http://{'127.0.0.1' if self.host in ('0.0.0.0', '[::]') else self.host}:{self.port}"


@pytest.fixture
def wanted(variables: dict[str, Any]) -> Endpoint:
    match = re.fullmatch(r"(.*?)(?::(\d+))?", str(variables["ollama_host"]))
    assert match
    return Endpoint(match[1], int(match[2] or 11434))


def test_service_runs_now_and_at_boot(host: Any) -> None:
    service = host.service("ollama")
    assert service.is_running
    assert service.is_enabled


def test_release_is_whole_and_alone(host: Any, variables: dict[str, Any]) -> None:
    version = variables["ollama_version"]
    releases = [name for name in host.file("/opt/forja/ollama").listdir() if not name.startswith(".")]
    assert releases == [version], f"leftovers of other or interrupted installations: {releases}"
    assert host.file("/usr/local/bin/ollama").linked_to == f"/opt/forja/ollama/{version}/bin/ollama"
    assert host.file(f"/opt/forja/ollama/{version}/lib/ollama").is_directory


def test_service_listens_where_it_was_asked_to(host: Any, wanted: Endpoint) -> None:
    with host.sudo():
        pid = host.check_output("systemctl show ollama.service --property=MainPID --value")
        lines = [line for line in host.check_output("ss -Hltnp").splitlines() if f"pid={pid}," in line]
    addresses = {line.split()[3] for line in lines}
    every = {f"{address}:{wanted.port}" for address in ("*", "0.0.0.0", "[::]")}
    expected = every if wanted.host in ("0.0.0.0", "[::]") else {f"{wanted.host}:{wanted.port}"}
    assert addresses & expected, f"ollama.service listens at {sorted(addresses)}, the inventory says {wanted.host}:{wanted.port}"
    assert host.file("/etc/systemd/system/ollama.service.d/forja.conf").mode == 0o644


def test_service_runs_as_its_own_user(host: Any) -> None:
    pid = host.check_output("systemctl show ollama.service --property=MainPID --value")
    assert host.process.get(pid=pid).user == "ollama"


def test_service_can_write_its_models(host: Any) -> None:
    """Asked of the process itself, so that a drop-in of the host's owner counts too."""
    with host.sudo():
        pid = host.check_output("systemctl show ollama.service --property=MainPID --value")
        environment = host.file(f"/proc/{pid}/environ").content_string.split("\0")
        folder = dict(line.partition("=")[::2] for line in environment)["OLLAMA_MODELS"]
        writable = host.run("runuser --user ollama -- test -w %s", folder)
    assert writable.rc == 0, f"{folder} is not writable to the user ollama"


def test_models_are_there_by_digest(host: Any, variables: dict[str, Any], wanted: Endpoint) -> None:
    models = [{"name": model} if isinstance(model, str) else model for model in variables["ollama_models"]]
    models = [model for model in models if model.get("state") != "absent"]
    if not models:
        pytest.skip("the inventory names no model")
    stored = {m["name"]: m["digest"] for m in json.loads(host.check_output(f"curl --fail --silent {wanted.url}/api/tags"))["models"]}
    # The lab's inventory quotes a digest from the mirror's offer by its name; the API shows the hexadecimal part alone.
    offered = variables.get("lab_models", {})
    for model in models:
        name = model["name"] if ":" in model["name"] else f"{model['name']}:latest"
        assert name in stored, f"{name} is not among the models: {sorted(stored)}"
        digest = str(offered.get(f"library/{name}", model.get("digest", stored[name]))).removeprefix("sha256:")
        assert stored[name] == digest


def test_fence_is_there_if_the_port_is_open(host: Any, wanted: Endpoint) -> None:
    loads = host.check_output("systemctl show ollama.service --property=ExecStartPre").count("/etc/ollama-fence.nft")
    with host.sudo():
        rules = host.run("nft list table inet forja_ollama")
    if wanted.open:
        assert f"tcp dport {wanted.port} jump guard" in rules.stdout, "port open beyond this host without its fence: run site.yml again"
        assert "drop" in rules.stdout
        assert loads == 1, "the fence is not loaded before the service starts"
    else:
        assert rules.rc != 0, "a fence is left though only this host reaches the port"
        assert loads == 0


def test_fence_outlives_a_restart_of_the_firewall(host: Any, wanted: Endpoint) -> None:
    """nftables.service flushes all tables when it starts, reloads and stops: the fence must be back each time.

    Asked of systemd's merged unit, since a flush would take the lab's own name service (Docker's rules) along.
    """
    if not wanted.open:
        pytest.skip("only this host reaches the port: there is no fence")
    unit = host.check_output("systemctl cat nftables.service")
    for moment in ("ExecStartPost", "ExecReload", "ExecStopPost"):
        assert f"{moment}=/usr/sbin/nft -f /etc/ollama-fence.nft" in unit


@pytest.mark.lab
def test_container_reaches_ollama(host: Any, variables: dict[str, Any], wanted: Endpoint) -> None:
    if not wanted.open:
        pytest.skip("containers do not reach a loopback address of the host")
    image = f"{variables['forja_registry']}/forja/hello:1"
    answer = host.check_output("docker run --rm --add-host=host.docker.internal:host-gateway %s wget -q -O - "
                               f"http://host.docker.internal:{wanted.port}/api/version", image)
    assert "version" in json.loads(answer)


@pytest.mark.lab
def test_neighbour_is_kept_out(host: Any, variables: dict[str, Any], wanted: Endpoint) -> None:
    """Another host of the network reaches this one's SSH but not its Ollama."""
    from testinfra import get_host  # here, because the neighbour is another host than the one under test

    neighbour = get_host("ansible://mirror", ansible_inventory=host.backend.ansible_inventory)
    address = variables["lab_address"]
    assert neighbour.run("curl --silent --max-time 3 telnet://%s:22 </dev/null", address).stdout.startswith("SSH-")
    refused = neighbour.run(f"curl --silent --max-time 3 http://%s:{wanted.port}/", address)
    expected = 28 if wanted.open else 7  # a time-out at the fence, or nobody listens there
    assert refused.rc == expected, f"expected curl's {expected}, got {refused.rc}: {refused.stdout}"


def test_gpu_helper_may_raise_privileges(host: Any) -> None:
    """nvidia-modprobe is setuid: a service that may not gain privileges cannot make /dev/nvidia-uvm."""
    assert host.check_output("systemctl show ollama.service --property=NoNewPrivileges --value") == "no"


@pytest.mark.lab
def test_model_says_its_sentence(host: Any, wanted: Endpoint, variables: dict[str, Any]) -> None:
    """The lab's models know one, and llama.cpp finds it word by word. Real ones would take their time to load."""
    model = variables["ollama_models"][0]["name"]
    question = json.dumps({"model": model, "messages": [{"role": "user", "content": "Who are you?"}]})
    answer = host.check_output("curl --silent --fail --max-time 60 --data %s %s/api/chat", question, wanted.url)
    lines = [json.loads(line) for line in answer.splitlines()]
    assert len(lines) > 10, "not streamed"
    assert f"I am {model}" in "".join(line["message"]["content"] for line in lines)
    assert lines[-1]["done_reason"] == "stop"


def test_largest_model_is_in_the_memory_of_the_gpu(host: Any, wanted: Endpoint, variables: dict[str, Any]) -> None:
    """Ollama computes on the CPU in silence where it finds no GPU. On a real host this loads the model."""
    root = variables["gpu_detect_root"]
    if not host.file(f"{root}/proc/driver/nvidia/version").exists and not host.file(f"{root}/dev/dxg").exists:
        pytest.skip("no driver of NVIDIA's runs here")
    models = json.loads(host.check_output(f"curl --silent --fail --max-time 60 {wanted.url}/api/tags"))["models"]
    if not models:
        pytest.skip("there are no models")
    model = max(models, key=lambda entry: int(entry["size"]))["name"]
    question = json.dumps({"model": model, "stream": False})
    host.check_output("curl --silent --fail --max-time 600 --data %s %s/api/generate", question, wanted.url)
    loaded = json.loads(host.check_output(f"curl --silent --fail --max-time 60 {wanted.url}/api/ps"))["models"]
    found = next(entry for entry in loaded if entry["name"] == model)
    beside = found["size"] - found["size_vram"]
    assert beside <= 0, f"{beside} of {found['size']} bytes of {model} are not in the GPU's memory: restart ollama, or take a smaller model"
