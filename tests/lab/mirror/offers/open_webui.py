"""The real Open WebUI from PyPI, slim, as an image; and two later versions of it: one that migrates, one whose migration fails."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

from mirror import Mirror
from publish_model import CONFIG, MANIFEST, push

BUILD = Path("/build")
REPOSITORY = "open-webui/open-webui"
VERSION = "0.12.4"
DATA = "/app/backend/data"
MIGRATIONS = "opt/open-webui/lib/python3.11/site-packages/open_webui/migrations/versions"
ENVIRONMENT = {"PATH": "/opt/open-webui/bin:/usr/bin:/bin", "ENV": "prod", "PORT": "8080", "USE_SLIM_DOCKER": "true", "DATA_DIR": DATA,
               "PYTHONUNBUFFERED": "1"}
MIGRATES = """op.create_table("forja_standin", sa.Column("id", sa.Integer, primary_key=True))"""
# Something is written before it fails, so that a rollback of the program alone would not do.
FAILS = f"""{MIGRATES}
    op.execute("DELETE FROM chat")
    op.get_bind().commit()
    raise RuntimeError("this migration of the Forja lab's stand-in fails")"""


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Layer:
    """A layer's compressed bytes with both of its digests."""

    def __init__(self, compressed: bytes) -> None:
        self.content = compressed
        self.digest, self.diff_id = digest(compressed), digest(gzip.decompress(compressed))


def pack(files: dict[str, str]) -> Layer:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return Layer(gzip.compress(plain.getvalue(), 1, mtime=0))


def migration(head: str, body: str) -> str:
    return f"""import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "f0{head[2:]}", "{head}", None, None


def upgrade():
    {body}


def downgrade():
    pass
"""


def push_image(mirror: Mirror, registry: str, version: str, layers: list[Layer]) -> str:
    config = json.dumps({
        "architecture": mirror.architecture, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "config": {"Env": [f"{key}={value}" for key, value in ENVIRONMENT.items()], "WorkingDir": "/app/backend",
                   "Cmd": ["open-webui", "serve", "--host", "0.0.0.0", "--port", "8080"], "ExposedPorts": {"8080/tcp": {}},
                   "Labels": {"org.opencontainers.image.version": version}},
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(layer.content), "digest": layer.digest}
                   for layer in layers],
    }).encode()
    blobs = {digest(config): config, **{layer.digest: layer.content for layer in layers}}
    return push(f"{registry}/v2/{REPOSITORY}", f"v{version}-slim", manifest, blobs)


def make(mirror: Mirror) -> dict[str, object]:
    head = (BUILD / "head").read_text().strip()
    layers = [Layer((BUILD / f"{name}.tar.gz").read_bytes()) for name in ("system", "app")]
    layers.append(pack({"tmp/": "", "run/": "", "app/": "", "app/backend/": "", f"{DATA[1:]}/": ""}))
    later = {"0.12.5": MIGRATES, "0.12.6": FAILS}
    with mirror.registry() as registry:
        digests = {VERSION: push_image(mirror, registry, VERSION, layers)}
        for version, body in later.items():
            extra = pack({f"{MIGRATIONS}/forja_standin.py": migration(head, body)})
            digests[version] = push_image(mirror, registry, f"{version}+standin".replace("+", "-"), [*layers, extra])
    shutil.rmtree(BUILD)
    return {"open_webui_tag": f"v{VERSION}-slim", "open_webui_digest": digests[VERSION], "lab_open_webui": digests}
