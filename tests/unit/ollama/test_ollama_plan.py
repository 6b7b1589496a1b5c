# SPDX-License-Identifier: Apache-2.0
"""The module ollama_plan: what counts beside the drop-ins of the host's owner, and what is refused before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.forja.facts.listeners import Listener
from plugins.module_utils.forja.host.access import Account
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.ollama import service as ollama
from plugins.module_utils.forja.ollama.service import DROPIN, PATH, Service, Wanted, check, parse_host, read_service, refuse_settings
from plugins.module_utils.forja.systemd.effective import File
from plugins.module_utils.forja.systemd.unit_file import parse
from plugins.modules import ollama_plan

MODELS = "/usr/share/ollama/.ollama/models"
OVERRIDE = f"{PATH}.d/override.conf"


def wanted(host: str = "127.0.0.1:11434", models_dir: str = MODELS, environment: dict[str, Any] | None = None,
           models: list[dict[str, Any]] | None = None) -> Wanted:
    return Wanted(host, models_dir, environment or {}, models or [])


def resolve(name: str) -> list[str]:
    return {"gpu.lan": ["192.0.2.7"]}.get(name, [])


def files(request: Wanted, override: str) -> list[File]:
    texts = ollama.written(request)
    return [(PATH, parse(texts[PATH])), (DROPIN, parse(texts[DROPIN])), (OVERRIDE, parse("[Service]\n" + override))]


def effective(override: str = "", **variables: Any) -> Service:
    return read_service(wanted(**variables), files(wanted(**variables), override), resolve)


@pytest.mark.parametrize(("text", "shown", "url", "is_open"), [
    ("127.0.0.1:11434", "127.0.0.1:11434", "http://127.0.0.1:11434", False),
    ("127.0.0.1", "127.0.0.1:11434", "http://127.0.0.1:11434", False),
    ("", "127.0.0.1:11434", "http://127.0.0.1:11434", False),
    ("localhost:1", "localhost:1", "http://localhost:1", False),
    ("0.0.0.0", "0.0.0.0:11434", "http://127.0.0.1:11434", True),
    (":8080", "0.0.0.0:8080", "http://127.0.0.1:8080", True),
    ("[::]:11434", "[::]:11434", "http://127.0.0.1:11434", True),
    ("[::1]:11434", "[::1]:11434", "http://[::1]:11434", False),
    ("::1", "[::1]:11434", "http://[::1]:11434", False),
    ("http://0.0.0.0", "0.0.0.0:80", "http://127.0.0.1:80", True),
    ("https://192.0.2.1", "192.0.2.1:443", "http://192.0.2.1:443", True),
    ('"192.0.2.1:9"', "192.0.2.1:9", "http://192.0.2.1:9", True),
    ("gpu.lan:8080", "gpu.lan:8080", "http://gpu.lan:8080", True),
    ("unknown.lan", "unknown.lan:11434", "http://unknown.lan:11434", True),
])
def test_address_is_read_as_ollama_reads_it(text: str, shown: str, url: str, is_open: bool) -> None:
    endpoint = parse_host(text, resolve)
    assert (str(endpoint), endpoint.url, endpoint.open) == (shown, url, is_open)


def test_without_overrides_the_variables_count() -> None:
    service = effective(host="0.0.0.0", environment={"OLLAMA_ORIGINS": "https://chat.example.org"})
    assert (str(service.endpoint), service.models_dir, service.user, service.overrides) == ("0.0.0.0:11434", MODELS, "ollama", [])
    assert service.environment["OLLAMA_ORIGINS"] == "https://chat.example.org"


def test_drop_in_of_the_owner_decides_over_the_fence_and_is_named() -> None:
    service = effective('Environment="OLLAMA_HOST=0.0.0.0:8080"\n')
    assert service.endpoint.open
    assert service.endpoint.port == 8080
    assert service.overrides == [f"{OVERRIDE} sets OLLAMA_HOST=0.0.0.0:8080, which wins over ollama_host."]


def test_folder_of_the_owner_is_writable_to_the_unit() -> None:
    service = effective("Environment=OLLAMA_MODELS=/data/models\n")
    assert service.models_dir == "/data/models"
    assert ollama.unit_paths(service) == {"writable": "/usr/share/ollama /data/models", "mounts": "/data/models", "protect_home": "yes"}
    assert "which wins over ollama_models_dir" in service.overrides[0]


@pytest.mark.parametrize(("folder", "writable", "protect"), [
    ("/mnt/AI models/ollama", '/usr/share/ollama "/mnt/AI models/ollama"', "yes"),
    ("/srv/100%", "/usr/share/ollama /srv/100%%", "yes"),
    ("/home/admin/ollama", "/usr/share/ollama /home/admin/ollama", "read-only"),
])
def test_paths_reach_the_unit_quoted(folder: str, writable: str, protect: str) -> None:
    service = effective(models_dir=folder)
    assert service.models_dir == folder, "the drop-in passes the path on unchanged"
    assert ollama.unit_paths(service)["writable"] == writable
    assert ollama.unit_paths(service)["protect_home"] == protect


@pytest.mark.parametrize(("override", "variables", "named"), [
    ("ProtectHome=yes\n", {"models_dir": "/home/admin/ollama"}, f"{OVERRIDE} hides.*ProtectHome=yes"),
    ("ProtectSystem=strict\nReadWritePaths=\n", {}, f"{OVERRIDE} sets ProtectSystem=strict. Add ReadWritePaths={MODELS}"),
    ("ReadWritePaths=\n", {}, "a drop-in resets ReadWritePaths="),
    ("", {"models_dir": "/tmp/models"}, "temporary files"),
    ("Environment=OLLAMA_HOST=unknown.lan\n", {}, "cannot resolve unknown.lan"),
])
def test_settings_that_cannot_work_are_refused_with_their_file(override: str, variables: dict[str, Any], named: str) -> None:
    request = wanted(**variables)
    with pytest.raises(ForjaError, match=named):
        refuse_settings(read_service(request, files(request, override), resolve), files(request, override))


@pytest.mark.parametrize(("override", "variables"), [
    ("", {}),
    ("", {"models_dir": "/home/admin/ollama"}),
    ("ProtectHome=no\n", {"models_dir": "/home/admin/ollama"}),
    ("ProtectSystem=full\nReadWritePaths=\n", {}),
    ("", {"models_dir": "/mnt/AI models/100%"}),
])
def test_settings_that_work_pass(override: str, variables: dict[str, Any]) -> None:
    request = wanted(**variables)
    service = read_service(request, files(request, override), resolve)
    refuse_settings(service, files(request, override))
    assert service.models_dir == request.models_dir


@pytest.mark.parametrize(("variables", "named"), [
    ({"host": "http://0.0.0.0"}, "Leave out the scheme"),
    ({"host": "0.0.0.0:70000"}, "is not host, host:port"),
    ({"host": "0.0.0.0:0"}, "is not host, host:port"),
    ({"host": "a/b"}, "any path"),
    ({"environment": {"OLLAMA_HOST": "::"}}, "Use ollama_host"),
    ({"environment": {"OLLAMA_MODELS": "/x"}}, "Use ollama_models_dir"),
    ({"environment": {"OLLAMA_FLASH_ATTENTION": True}}, "OLLAMA_FLASH_ATTENTION is a YAML boolean"),
    ({"models": [{"name": "llama 3.2"}]}, 'Did you mean "llama3.2"'),
    ({"models": [{"name": "x", "digest": "abc"}]}, "is not a sha256"),
    ({"models_dir": "models"}, "not an absolute path"),
])
def test_wrong_variables_are_refused(variables: dict[str, Any], named: str) -> None:
    with pytest.raises(ForjaError, match=named):
        check(wanted(**variables))


def test_all_wrong_variables_are_named_at_once() -> None:
    with pytest.raises(ForjaError) as error:
        check(wanted(host="http://x", environment={"OLLAMA_HOST": "y"}, models=[{"name": "a b c"}, {"name": "UPPER"}]))
    assert all(word in str(error.value) for word in ("http://x", "Use ollama_host", "a b c", "UPPER"))


STRANGER = Listener("0.0.0.0", 4711, "lasse", "/usr/bin/docker-proxy -p 11434", "docker.service")


@pytest.mark.parametrize(("listener", "host", "refused"), [
    (STRANGER, "127.0.0.1:11434", True),
    (STRANGER._replace(unit="ollama.service"), "127.0.0.1:11434", False),
    (STRANGER._replace(address="192.0.2.1"), "127.0.0.1:11434", False),
    (STRANGER._replace(address="192.0.2.1"), "0.0.0.0:11434", True),
])
def test_who_has_the_port_is_named(listener: Listener, host: str, refused: bool) -> None:
    service = effective(host=host)
    if not refused:
        ollama.refuse_strangers(service, [listener])
        return
    with pytest.raises(ForjaError, match=r"process 4711 of the user lasse: /usr/bin/docker-proxy -p 11434 \(docker.service\)"):
        ollama.refuse_strangers(service, [listener])


@pytest.mark.parametrize(("user", "groups", "sentences"), [
    (Account("ollama", True, 997, 995, "ollama", "/usr/share/ollama", ["render"]), ["render"], 0),
    (Account("ollama", True, 997, 100, "users", "/usr/share/ollama", []), [], 1),  # group ollama was there before the user
    (Account("ollama", True, 997, 995, "ollama", "/home/ollama", []), ["render", "video"], 3),
    (Account("ollama", False, 65534, 65534, "", "", []), ["render"], 1),
])
def test_what_the_user_lacks(user: Account, groups: list[str], sentences: int) -> None:
    assert len(ollama_plan.missing(user, groups)) == sentences
