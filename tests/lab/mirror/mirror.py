"""Builds the mirror's image: its certificate authority, each offer of offers/, and what a site's inventory states about them.

    mirror.py authority NAME        the site's authority and the certificate of the host NAME
    mirror.py offer NAME OFFER      what offers/OFFER.py makes for the mirror called NAME
    mirror.py index                 /srv/lab.json: the authority and the variables of all offers

An offer is a module with `make(mirror) -> variables`. It puts files below `mirror.web`, where each upstream has a folder with its host's
name, and images into `mirror.registry()`; what it returns (checksums, fingerprints) becomes variables of the lab's inventory. It is built
in a stage of its own from the image's stage `workshop`, where other offers are not there. Every stand-in says so in its version or
description. A folder offers/OFFER/ with data is optional.
"""

import hashlib
import importlib
import json
import platform
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TLS = Path("/etc/forja-lab")
OFFERS = Path("/srv/offers")
INDEX = Path("/srv/lab.json")
REGISTRY = "127.0.0.1:5001"


def run(*argv: str, cwd: Path | None = None, stdin: str | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, input=stdin, check=False, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Mirror:
    """What an offer fills, and what it may use for that."""

    web = Path("/srv/mirror")
    architecture = platform.machine().replace("x86_64", "amd64").replace("aarch64", "arm64")
    run = staticmethod(run)
    sha256 = staticmethod(sha256)

    def __init__(self, name: str) -> None:
        self.name = name  # as hosts call it

    def install(self, *packages: str) -> None:
        """Debian's packages for the build; the mirror itself does not get them."""
        run("apt-get", "update")
        run("apt-get", "install", "--yes", "--no-install-recommends", *packages)

    def download(self, *packages: str, to: Path) -> None:
        """Debian's packages as files."""
        run("apt-get", "update")
        run("apt-get", "download", *packages, cwd=to)

    @contextmanager
    def registry(self) -> Iterator[str]:
        """The mirror's container registry, to push to; yields its URL."""
        config = Path("/tmp/registry.yml")  # noqa: S108  (a stage of an image build has no other users)
        config.write_text(json.dumps({"version": 0.1, "log": {"level": "warn"}, "http": {"addr": REGISTRY},
                                      "storage": {"filesystem": {"rootdirectory": "/srv/registry"}}}))
        server = subprocess.Popen(["docker-registry", "serve", str(config)])
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=1)  # noqa: S310  (the registry just started)
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.1)
            yield f"http://{REGISTRY}"
        finally:
            server.terminate()
            server.wait()


def make_authority(name: str) -> None:
    TLS.mkdir(mode=0o755)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650",
        "-subj", "/CN=Forja lab authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign", cwd=TLS)
    run("openssl", "req", "-x509", *key, "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.crt",
        "-days", "825", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
        "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth", cwd=TLS)
    (TLS / "ca.key").unlink()


def make_offer(name: str, offer: str) -> None:
    variables = importlib.import_module(f"offers.{offer}").make(Mirror(name))
    (OFFERS / f"{offer}.json").write_text(json.dumps(variables, indent=1))


def make_index() -> None:
    variables: dict[str, object] = {}
    for part in sorted(OFFERS.glob("*.json")):
        found = json.loads(part.read_text())
        if twice := variables.keys() & found.keys():
            sys.exit(f"offers/{part.stem}.py: {sorted(twice)} come from another offer too; each variable has one.")
        variables |= found
    INDEX.write_text(json.dumps({"ca": (TLS / "ca.crt").read_text(), "variables": variables}, indent=1))


if __name__ == "__main__":
    {"authority": make_authority, "offer": make_offer, "index": make_index}[sys.argv[1]](*sys.argv[2:])
