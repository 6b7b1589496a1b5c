"""Small container images: busybox that greets."""

import hashlib
import io
import json
import tarfile

from mirror import Mirror
from publish_model import CONFIG, MANIFEST, push


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push_hello(mirror: Mirror, registry: str) -> None:
    """forja/hello:1, a container image of one layer: busybox, with its applets, which greets."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for applet in ("cat", "echo", "ip", "ls", "nslookup", "sh", "sleep", "wget"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    diff = digest(layer.getvalue())
    config = json.dumps({
        "architecture": mirror.architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]},
        "config": {"Env": ["PATH=/bin"], "Cmd": ["echo", "Hello from the registry of the Forja lab"]},
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": len(layer.getvalue()), "digest": diff}],
    }).encode()
    push(f"{registry}/v2/forja/hello", "1", manifest, {digest(config): config, diff: layer.getvalue()})


def make(mirror: Mirror) -> dict[str, object]:
    with mirror.registry() as registry:
        push_hello(mirror, registry)
    return {}
