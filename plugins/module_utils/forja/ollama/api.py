# SPDX-License-Identifier: Apache-2.0
"""Ollama's HTTP interface: its list of models, deleting, and pulling with the stream that a pull answers.

Sources: Ollama 0.32 (server/routes.go, server/images.go, server/download.go).
"""

import http.client
import json
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from ..host.errors import ForjaError
from ..host.progress import Progress
from .model import Desired, Model, ModelName, parse_digest, plan

MAX_LINE = 64 * 1024  # a line of a pull is some 200 bytes
MAX_ANSWER = 64 * 1024 * 1024
DROPS = 5  # broken connections in a row, without progress between them
# What an error of a pull contains, and what to do about it.
ADVICE = (
    (("no space left", "disk quota"),
     "The disk of Ollama's models (OLLAMA_MODELS) is full. What was downloaded is kept: make room and run again."),
    (("newer version of ollama", ": 412"), "The model needs a newer Ollama: set ollama_version to a later release."),
    (("x509", "certificate"), "The host does not trust the registry's certificate: install the certificate authority of your proxy or "
     "mirror on the host (/usr/local/share/ca-certificates, then update-ca-certificates) and restart Ollama."),
    (("no such host", "temporary failure in name resolution", "server misbehaving"),
     "The host cannot resolve the registry's name: check its DNS, or set HTTPS_PROXY in ollama_environment."),
    (("connection refused", "i/o timeout", "network is unreachable", "no route to host", "tls handshake timeout"),
     "The host cannot reach the registry: check its network, or set HTTPS_PROXY in ollama_environment."),
    ((": 401", "unauthorized", "access denied"), "The registry refuses the host: the name is misspelt, or the model is private or gated."),
    (("sharded gguf",), "Ollama does not pull a GGUF in several parts: name a quantization that is one file, or merge the parts with "
     "llama-gguf-split --merge and create a model from it."),
    (("file does not exist",), "The registry has no such model or tag; https://ollama.com/library lists them."),
    (("digest mismatch",), "What arrived was damaged and Ollama has deleted it: run again."),
)
VERIFY_RATE = 20 * 1000 * 1000  # bytes/s at which a slow disk (an SD card) reads a model back when Ollama checks its digest

Item = Dict[str, Any]


class UnreachableError(ForjaError):
    """No server answers at the address."""


class DroppedError(ForjaError):
    """The connection of a pull broke; Ollama keeps what it has downloaded."""


def human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000.0
    return f"{size:.1f} GB"


def read_items(readline: Callable[[int], bytes], url: str) -> Iterator[Item]:
    """The objects of a stream with one JSON object a line. A last line that is cut off counts as the end."""
    while True:
        line = readline(MAX_LINE + 1)
        if not line:
            return
        try:
            item = json.loads(line.decode("utf-8")) if line.strip() else {}
        except (ValueError, RecursionError):
            item = None
        if isinstance(item, dict) and len(line) <= MAX_LINE:
            yield item
        elif line.endswith(b"\n") or len(line) > MAX_LINE:
            raise ForjaError(not_ollama(url, line))


def not_ollama(url: str, answer: bytes) -> str:
    return (f"{url} does not answer as Ollama does but with {answer[:80].decode('utf-8', 'replace')!r}. Another program listens there, or "
            "a proxy stands before it: set the option host to Ollama's own address.")


def explain(name: object, error: str) -> str:
    """An error of a pull in Ollama's words, with what to do about it."""
    between = error.startswith("the connection to")  # that to Ollama itself broke, not Ollama's to the registry
    advice = next((text for signs, text in ADVICE if any(sign in error.lower() for sign in signs) and not between), "")
    if "file does not exist" in error and re.match(r"[\w-]+/[\w.-]*gguf", str(name), re.I):
        advice = f"Did you mean hf.co/{re.sub(':latest$', '', str(name))}, a repository of Hugging Face?"
    return f"Pulling {name} failed: {error.rstrip('.')}. {advice}".strip()


class Meter:
    """The bytes of a pull by blob: as first seen, now, and in all."""

    def __init__(self) -> None:
        self.blobs: Dict[str, Tuple[int, int, int]] = {}
        self.status = ""

    def take(self, item: Item) -> bool:
        """Notes a line of the stream; returns whether it is news, that is a sign of progress."""
        news, self.status = item.get("status") != self.status, str(item.get("status", ""))
        if isinstance(item.get("digest"), str) and isinstance(item.get("total"), int):
            done = item["completed"] if isinstance(item.get("completed"), int) else 0
            first, before, _ = self.blobs.get(item["digest"], (done, -1, 0))
            self.blobs[item["digest"]] = (first, done, item["total"])
            news = news or done != before
        return news

    @property
    def completed(self) -> int:
        return sum(done for _, done, _ in self.blobs.values())

    @property
    def total(self) -> int:
        return sum(total for _, _, total in self.blobs.values())

    @property
    def pulled(self) -> int:
        return sum(max(0, done - first) for first, done, _ in self.blobs.values())


def open_url(url: str, method: str, data: Optional[bytes], timeout: float) -> Any:
    """Opens a request past the proxies of the environment, which do not lead to the host's own services."""
    headers = {"User-Agent": "forja", **({"Content-Type": "application/json"} if data else {})}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  (base_url lets http and https pass)
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout)


class Client:
    """Ollama's HTTP interface. `opener(url, method, data, timeout)` opens a request as urllib does and raises as it does."""

    def __init__(self, base: str, opener: Callable[..., Any], clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.base, self.opener, self.clock, self.sleep = base, opener, clock, sleep

    def _open(self, method: str, path: str, body: Optional[Item], timeout: float) -> Any:
        url = self.base + path
        try:
            return self.opener(url, method, json.dumps(body).encode("utf-8") if body else None, timeout)
        except urllib.error.HTTPError as error:
            text = error.read(MAX_LINE)
            if error.code == 403:
                raise ForjaError(f"{url} answered 403 Forbidden. An Ollama that listens on loopback answers only to local host names: use "
                                  'host 127.0.0.1:11434, or let the proxy before it send "Host: localhost:11434".') from None
            try:
                message = str(json.loads(text.decode("utf-8"))["error"])
            except (ValueError, KeyError, TypeError):
                raise ForjaError(f"{not_ollama(url, text)} (status {error.code})") from None
            raise ForjaError(explain((body or {}).get("model"), message) if path == "/api/pull" else f"{url}: {message}") from None

    def _call(self, method: str, path: str, body: Optional[Item], timeout: float) -> bytes:
        try:
            response = self._open(method, path, body, timeout)
            try:
                return bytes(response.read(MAX_ANSWER))
            finally:
                response.close()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"No Ollama server answers at {self.base}: {getattr(error, 'reason', error)}. Start it (systemctl "
                                   "status ollama and journalctl -u ollama say why it does not run) or set the option host.") from None

    def find(self, name: ModelName) -> Optional[Model]:
        """The model as Ollama's list has it. Ollama does not tell upper from lower case, so neither does this."""
        answer = self._call("GET", "/api/tags", None, 60)
        try:
            for entry in json.loads(answer.decode("utf-8"))["models"] or []:
                if entry["name"].lower() == str(name).lower():
                    return Model(entry["name"], parse_digest(entry["digest"]), int(entry["size"]), str(entry.get("modified_at", "")),
                                 entry.get("details") or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ForjaError(not_ollama(self.base + "/api/tags", answer)) from None
        return None

    def ask(self, method: str, path: str, body: Optional[Item] = None, timeout: float = 60) -> Item:
        """The one object that a call answers."""
        answer = self._call(method, path, body, timeout)
        try:
            return dict(json.loads(answer.decode("utf-8")))
        except (ValueError, TypeError):
            raise ForjaError(not_ollama(self.base + path, answer)) from None

    def delete(self, model: str) -> None:
        self._call("DELETE", "/api/delete", {"model": model}, 300)

    def pull(self, model: str, timeout: float, progress: Optional[Progress] = None) -> Meter:
        """Pulls, and goes on after broken connections as long as each brings something. Returns the bytes.

        timeout: seconds without progress after which it gives up. progress: may raise PausedError while the download runs: Ollama keeps
        what it has, the next pull goes on from there.
        """
        meter, drops, best = Meter(), 0, 0
        while True:
            try:
                self._pull_once(model, timeout, meter, progress)
                return meter
            except DroppedError as error:
                drops, best = 1 if meter.completed > best else drops + 1, max(best, meter.completed)
                if drops > DROPS:
                    raise ForjaError(explain(model, f"the connection to {self.base} broke {drops} times without progress, at "
                                              f"{human(meter.completed)} of {human(meter.total)}: {error}")) from None
                self.sleep(drops)

    def _pull_once(self, model: str, timeout: float, meter: Meter, progress: Optional[Progress]) -> None:
        # A thread reads, so that the clock is watched whether the server talks or not.
        events = queue.Queue()  # type: queue.Queue[Any]
        stop = threading.Event()
        threading.Thread(target=self._read, args=(model, events, stop), daemon=True).start()
        meter.status, moved = "", self.clock()
        try:
            while True:
                # While it checks digests Ollama says nothing for as long as it takes to read the model.
                patience = timeout + (0 if meter.status.startswith("pulling") else meter.total / VERIFY_RATE)
                try:
                    event = events.get(timeout=max(0.0, moved + patience - self.clock()))
                except queue.Empty:
                    event = {}
                if isinstance(event, Exception):
                    raise event
                if event is None and meter.status == "success":
                    return
                if event is None:
                    raise DroppedError(f"the answer ended at '{meter.status}'")
                if "error" in event:
                    raise ForjaError(explain(model, str(event["error"])))
                now = self.clock()
                if event and meter.take(event):
                    moved = now
                elif now - moved >= patience:
                    raise ForjaError(explain(model, f"no progress for {patience:.0f} s at '{meter.status}', with "
                                              f"{human(meter.completed)} of {human(meter.total)}") + " What is there is kept. "
                                      "journalctl -u ollama tells of the way to the registry; the option timeout gives it more time.")
                if progress and event.get("digest"):
                    progress(meter.completed, meter.total, gained=meter.pulled)
        finally:
            stop.set()

    def _read(self, model: str, events: Any, stop: threading.Event) -> None:
        """Puts the stream's objects into the queue, then None; an exception instead when it fails."""
        try:
            response = self._open("POST", "/api/pull", {"model": model, "stream": True}, 24 * 3600)
            try:
                for item in read_items(response.readline, self.base + "/api/pull"):
                    events.put(item)
                    if stop.is_set():
                        return
            finally:
                response.close()
            events.put(None)
        except ForjaError as error:
            events.put(error)
        except (OSError, ValueError, http.client.HTTPException) as error:
            events.put(DroppedError(str(getattr(error, "reason", error))))


def apply(client: Client, before: Optional[Model], desired: Desired) -> Optional[Model]:
    """Deletes, or judges what a pull has brought; returns the model that is there then."""
    if before and desired.state == "absent":
        client.delete(before.name)
    after = client.find(desired.name)
    if not plan(after, desired, pulled=True):
        return after
    if after is None or desired.digest is None:
        raise ForjaError(f"Ollama reports success, yet afterwards {desired.name} is {'there' if after else 'missing'}: something else "
                          "changes its models at the same time.")
    was_there = before is not None and before.digest == after.digest
    if not was_there:
        client.delete(after.name)
    raise ForjaError(f"{desired.name} has another digest than wanted: found {after.digest}, wanted {desired.digest}. The registry's tag "
                      "has moved, or the digest is another model's. Set digest to the one found if that is the model you want. The model "
                      + ("was here before and is left as it is." if was_there else "found has been removed from the host again."))
