#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pushes a small made-up model to a container registry, in the form in which Ollama's library holds models.

    publish_model.py http://127.0.0.1:5000 library/llama3.2:3b 4000000

The same name and size give the same bytes, so the digest it prints can be pinned. The layer begins as a GGUF file
does, the rest is noise: no program can run it.
"""

import hashlib
import json
import random
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image.model"


def make_model(name: str, size: int) -> tuple[bytes, dict[str, bytes]]:
    """The manifest and the blobs (by digest) of a model with `size` bytes of made-up weights."""
    # GGUF version 3 with no tensors and one piece of metadata: general.name.
    key, value = b"general.name", f"{name} (stand-in, no real weights)".encode()
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    head += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    weights = head + random.Random(name).randbytes(max(0, size - len(head)))
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
    tag = name.partition(":")[2]
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


def publish(registry: str, name: str, size: int) -> str:
    """Pushes a made-up model and returns its manifest's digest, which is the digest that Ollama shows."""
    if "://" not in registry:
        registry = f"https://{registry}"
    path, _, tag = name.partition(":")
    if "/" not in path:
        path = f"library/{path}"
    base = f"{registry.rstrip('/')}/v2/{path}"
    manifest, blobs = make_model(f"{path}:{tag or 'latest'}", size)
    return push(base, tag or "latest", manifest, blobs)


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdigit():
        sys.exit(f"usage: {sys.argv[0]} REGISTRY NAME SIZE")
    print(publish(sys.argv[1], sys.argv[2], int(sys.argv[3])))
