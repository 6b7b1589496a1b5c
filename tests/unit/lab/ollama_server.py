"""For the tests of Ollama: a small container registry that can misbehave, and the lab's stand-in as a process."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.lab.mirror import tiny_model
from tests.lab.mirror.publish_model import publish

LAB = Path(__file__).parents[2] / "lab" / "mirror"


class Registry(http.server.ThreadingHTTPServer):
    """Docker's registry protocol as far as pushing and pulling a model needs it, in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RegistryHandler)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.ranges: list[str] = []  # the Range headers of the requests for blobs
        self.cut = 0  # end the answer after so many bytes, once
        self.damage = False  # turn the blobs' last byte over

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def publish(self, name: str, size: int = 3_000_000) -> str:
        return publish(f"http://{self.address}", name, tiny_model.make(name, size)).removeprefix("sha256:")

    @classmethod
    @contextlib.contextmanager
    def run(cls) -> Iterator[Registry]:
        with cls() as registry:
            threading.Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            yield registry
            registry.shutdown()


class RegistryHandler(http.server.BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        blob, manifest = re.search(r"/blobs/(sha256:\w+)$", self.path), re.search(r"^/v2/(.*)/manifests/(.*)$", self.path)
        if self.command == "POST":
            self.answer(202, Location=f"{self.path}1?state=x")
        elif self.command == "PUT" and manifest:
            self.server.manifests[":".join(manifest.groups())] = body
            self.answer(201)
        elif self.command == "PUT":
            self.server.blobs[f"sha256:{hashlib.sha256(body).hexdigest()}"] = body
            self.answer(201)
        elif manifest and ":".join(manifest.groups()) in self.server.manifests:
            self.answer(200, self.server.manifests[":".join(manifest.groups())])
        elif blob and blob[1] in self.server.blobs:
            self.send_blob(self.server.blobs[blob[1]])
        else:
            self.answer(404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def send_blob(self, blob: bytes) -> None:
        if self.server.damage:
            blob = blob[:-1] + bytes([blob[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted:
            self.server.ranges.append(wanted[0])
        start = int(wanted[1]) if wanted else 0
        cut, self.server.cut = self.server.cut, 0
        if not cut or self.command == "HEAD":
            self.answer(206 if wanted else 200, blob[start:])
            return
        self.close_connection = True
        self.answer(206 if wanted else 200, blob[start:start + cut], Content_Length=str(len(blob) - start))


class Ollama:
    """The stand-in as a process. It can be killed and started again on the same port."""

    def __init__(self, folder: Path, registry: str, rate: int = 0, host: str = "127.0.0.1:0", **environment: str) -> None:
        self.program, self.models = folder / "ollama", folder / "models"
        text = (LAB / "offers/ollama/ollama-standin").read_text().replace("@VERSION@", "0.32.7").replace("@REGISTRY@", registry)
        self.program.write_text(text)
        self.environment = {**os.environ, "OLLAMA_MODELS": str(self.models), "OLLAMA_HOST": host, "OLLAMA_STANDIN_INSECURE": "1",
                            "OLLAMA_STANDIN_RATE": str(rate), "http_proxy": "", **environment}
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(self.program), "serve"], env=self.environment, text=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        listening = re.match(r"Listening on (.*):(\d+) \(version (.*)\)$", line)
        assert listening, line + self.process.stderr.read()
        self.listens, port, self.version = listening.groups()
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.host = f"127.0.0.1:{port}"
        self.environment["OLLAMA_HOST"] = re.sub(r":0$", f":{port}", self.environment["OLLAMA_HOST"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(self.program), *argv], env=self.environment, text=True, capture_output=True, check=False)

    def partial(self) -> int:
        """Bytes of the download that is cut off or under way."""
        return sum(file.stat().st_size for file in self.models.glob("blobs/*-partial"))


@contextlib.contextmanager
def standin(folder: Path, registry: Registry, rate: int = 0, **environment: str) -> Iterator[Ollama]:
    server = Ollama(folder, registry.address, rate, **environment)
    try:
        yield server
    finally:
        server.kill()
