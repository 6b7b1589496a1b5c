# SPDX-License-Identifier: Apache-2.0
"""Pushes a model to a container registry, in the form in which Ollama's library holds models."""

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image.model"


def describe(tag: str, weights: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The manifest and the blobs (by digest) of a model in a GGUF file."""
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    config = json.dumps({"model_format": "gguf", "model_family": "standin", "model_families": ["standin"], "model_type": tag.upper(),
                         "file_type": "none", "architecture": "amd64", "os": "linux",
                         "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST,
                           "config": {"mediaType": CONFIG, "digest": config_digest, "size": len(config)},
                           "layers": [{"mediaType": LAYER, "digest": digest, "size": len(weights)}]}).encode()
    return manifest, {digest: weights, config_digest: config}


def send(method: str, url: str, data: bytes | None = None, kind: str = "application/octet-stream") -> str:
    """Sends a request and returns the answer's Location header, if any."""
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.headers.get("Location", ""))


def push(base: str, tag: str, manifest: bytes, blobs: dict[str, bytes]) -> str:
    """Uploads blobs (by digest) and the manifest that names them; returns the manifest's digest."""
    for digest, blob in blobs.items():
        try:
            send("HEAD", f"{base}/blobs/{digest}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            upload = urllib.parse.urljoin(base, send("POST", f"{base}/blobs/uploads/", b""))
            send("PUT", f"{upload}{'&' if '?' in upload else '?'}digest={urllib.parse.quote(digest)}", blob)
    send("PUT", f"{base}/manifests/{tag}", manifest, MANIFEST)
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def publish(registry: str, name: str, weights: bytes) -> str:
    """Pushes a model; returns its manifest's digest, which is the one that Ollama shows. `name` may leave out library/ and the tag."""
    path, _, tag = name.partition(":")
    if "/" not in path:
        path = f"library/{path}"
    base = f"{registry.rstrip('/')}/v2/{path}"
    manifest, blobs = describe(tag or "latest", weights)
    return push(base, tag or "latest", manifest, blobs)
