# SPDX-License-Identifier: Apache-2.0
"""What Ollama's service will really use: its address, its models folder and its user, with every drop-in of the host counted.

A drop-in of the host's owner, such as override.conf, is read after forja.conf and wins. The fence, the unit and the summary follow
what wins. What cannot work is refused here, before anything is changed.

Sources: Ollama 0.32 (envconfig/config.go: Host); systemd.exec(5).
"""

import ipaddress
import os
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..facts.listeners import Listener, collides
from ..host.errors import ForjaError
from ..systemd.effective import File, environment, last, listed
from ..systemd.unit_file import environment_entries, quote, render
from .model import read_desired

UNIT = "ollama.service"
PATH = f"/etc/systemd/system/{UNIT}"
DROPIN = f"{PATH}.d/forja.conf"
USER = "ollama"
HOME = "/usr/share/ollama"
PORT = 11434
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+)(?::(\d{1,5}))?\Z")
# What ProtectHome= hides, and what a private /tmp replaces.
_HOMES = tuple(f"{folder}/" for folder in ("/home", "/root", "/run/user"))
_TEMPORARY = ("/tmp/", "/var/tmp/")  # noqa: S108  (refused, not used)

Resolve = Callable[[str], List[str]]


class Wanted(NamedTuple):
    """What the role's variables say."""

    host: str
    models_dir: str
    environment: Mapping[str, Any]
    models: Sequence[Mapping[str, Any]]


class Endpoint(NamedTuple):
    """Where the service listens. `addresses` are numeric, none for a name without any; a wildcard is one, 0.0.0.0 or ::."""

    host: str
    port: int
    addresses: Tuple[str, ...]

    @property
    def open(self) -> bool:
        """Whether others than this host can reach it."""
        return not self.addresses or not all(ipaddress.ip_address(address).is_loopback for address in self.addresses)

    @property
    def url(self) -> str:
        """The URL under which this host reaches it."""
        local = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104  (Go listens on IPv4 and IPv6 for either)
        return f"http://{bracket(local.get(self.host, self.host))}:{self.port}"

    def __str__(self) -> str:
        return f"{bracket(self.host)}:{self.port}"


class Service(NamedTuple):
    """What will count, and sentences about what overrides the role's variables."""

    endpoint: Endpoint
    models_dir: str
    user: str
    protect_home: str
    environment: Dict[str, str]
    overrides: List[str]


def bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def check(wanted: Wanted) -> None:
    """Check the role's variables. ForjaError names all that is wrong."""
    wrong = []
    match = _HOST.match(wanted.host)
    if not match or not 0 < int(match.group(2) or PORT) < 65536:
        wrong.append(f'ollama_host: "{wanted.host}" is not host, host:port or [IPv6 address]:port. Leave out the scheme (http:// means '
                     'port 80) and any path; 127.0.0.1, 0.0.0.0:11434 and "[::]:11434" are valid.')
    if not wanted.models_dir.startswith("/"):
        wrong.append(f'ollama_models_dir: "{wanted.models_dir}" is not an absolute path.')
    for name, variable in (("OLLAMA_HOST", "ollama_host"), ("OLLAMA_MODELS", "ollama_models_dir")):
        if name in wanted.environment:
            wrong.append(f"ollama_environment sets {name}. Use {variable}, which the fence and the unit follow too.")
    try:
        environment_entries("Service", wanted.environment)
    except ForjaError as error:
        wrong.append(str(error))
    for model in wanted.models:
        try:
            read_desired(model["name"], model.get("state") or "present", model.get("digest"))
        except ForjaError as error:
            wrong.append(str(error))
    if wrong:
        raise ForjaError(" ".join(wrong))


def written(wanted: Wanted, models_dir: str = "") -> Dict[str, str]:
    """Return the files that the role is about to write, as far as others may override what they say.

    `models_dir` is the folder that counts, with its links resolved, once it is known.
    """
    host = str(parse_host(wanted.host, lambda _host: []))
    variables = dict({"OLLAMA_HOST": host, "OLLAMA_MODELS": wanted.models_dir}, **wanted.environment)
    paths = " ".join(quote(path) for path in (HOME, models_dir or wanted.models_dir))
    return {PATH: f"[Service]\nUser={USER}\nProtectSystem=strict\nReadWritePaths={paths}\n",
            DROPIN: render("", environment_entries("Service", variables))}


def parse_host(text: str, resolve: Resolve) -> Endpoint:
    """Parse OLLAMA_HOST as Ollama does. A name that cannot be resolved has no addresses."""
    scheme, separator, rest = text.strip(" \"'").rpartition("://")
    port = {"http": 80, "https": 443}.get(scheme, PORT) if separator else PORT
    rest = rest.partition("/")[0]
    match = re.match(r"(\[[^\]]*\]|[^:]*):(\w*)\Z", rest)
    if match:
        host, number = match.groups()
        port = int(number) if number.isdigit() and int(number) < 65536 else port
        host = host.strip("[]") or "0.0.0.0"  # noqa: S104  (":11434" means every address)
    else:
        host = rest.strip("[]") or "127.0.0.1"
    try:
        return Endpoint(host, port, (str(ipaddress.ip_address(host)),))
    except ValueError:
        pass
    return Endpoint(host, port, ("127.0.0.1",) if host == "localhost" else tuple(resolve(host)))


def read_service(wanted: Wanted, files: List[File], resolve: Resolve) -> Service:
    """Read what counts from the unit's files, among them the ones that are about to be written."""
    variables = environment(files)
    host, models = variables.get("OLLAMA_HOST"), variables.get("OLLAMA_MODELS")
    user = last(files, "User")
    overrides = []
    for name, setting, variable in (("OLLAMA_HOST", host, "ollama_host"), ("OLLAMA_MODELS", models, "ollama_models_dir"),
                                    ("User", user, "")):
        if setting and setting.path not in (PATH, DROPIN):
            over = f", which wins over {variable}" if variable else f", not the user {USER}"
            overrides.append(f"{setting.path} sets {name}={setting.value}{over}.")
    endpoint = parse_host(host.value if host else "", resolve)
    folder = os.path.normpath(models.value.strip(" \"'")) if models else f"{HOME}/.ollama/models"
    protect = "read-only" if f"{os.path.realpath(folder)}/".startswith(_HOMES) else "yes"
    used = {name: setting.value for name, setting in sorted(variables.items()) if name.startswith("OLLAMA_")}
    return Service(endpoint, folder, user.value if user else "root", protect, used, overrides)


def refuse_settings(service: Service, files: List[File]) -> None:
    """Raise ForjaError for settings with which the service cannot work, with the file that sets them."""
    folder, real = service.models_dir, os.path.realpath(service.models_dir)
    if not service.endpoint.addresses:
        raise ForjaError(f"OLLAMA_HOST is {service.endpoint}, and this host cannot resolve {service.endpoint.host}. Use an IP address.")
    if f"{real}/".startswith(_TEMPORARY):
        raise ForjaError(f"The models folder {folder} is below a folder for temporary files, of which the service has its own. Choose "
                         "another one.")
    protect, strict = last(files, "ProtectHome"), last(files, "ProtectSystem")
    hidden = protect is not None and protect.value.lower() not in ("no", "off", "false", "0", "read-only")
    if protect and hidden and protect.path != PATH and service.protect_home == "read-only":
        raise ForjaError(f"The models folder {folder} is below a home, which {protect.path} hides from the service with "
                         f"ProtectHome={protect.value}. Choose a folder elsewhere, or remove that line.")
    if not _writable(files, real):
        cause = f"{strict.path} sets ProtectSystem={strict.value}" if strict and strict.path != PATH else "a drop-in resets ReadWritePaths="
        raise ForjaError(f"The models folder {folder} is read-only for the service: {cause}. Add ReadWritePaths={quote(real)} there, or "
                         "remove that line.")


def unit_paths(service: Service) -> Dict[str, str]:
    """Return the values of the unit's path settings, quoted as systemd needs them."""
    real = os.path.realpath(service.models_dir)
    writable = list(dict.fromkeys([HOME, real]))
    return {"writable": " ".join(quote(path) for path in writable), "mounts": quote(real), "protect_home": service.protect_home}


def refuse_strangers(service: Service, found: List[Listener]) -> None:
    """Raise ForjaError where another program than the service listens on the port, at an address that collides."""
    for one in found:
        if one.unit == UNIT or not any(collides(address, one.address) for address in service.endpoint.addresses):
            continue
        who = f"process {one.pid} of the user {one.user}: {one.command}" if one.pid else f"a process of the user {one.user}"
        about = f' "systemctl status {one.pid}" tells more about it.' if one.pid else ""
        unit = f" ({one.unit})" if one.unit else ""
        raise ForjaError(f"Port {service.endpoint.port} is taken by {who}{unit}, which is not {UNIT}.{about} Stop it, or give ollama_host "
                         "another port.")


def _writable(files: List[File], path: str) -> bool:
    """Whether the mount namespace of the service leaves a path writable. The unit as it is written lists it in ReadWritePaths=."""
    strict = last(files, "ProtectSystem")
    if strict is None or strict.value.lower() != "strict":
        return True
    return any(f"{path}/".startswith(setting.value.lstrip("-+").rstrip("/") + "/") for setting in listed(files, "ReadWritePaths"))
