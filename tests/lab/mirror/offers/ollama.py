"""Ollama's releases: archives in upstream's layout with the stand-in as their program."""

import io
import random
import tarfile
from pathlib import Path

from mirror import Mirror

STANDIN = Path(__file__).with_suffix("") / "ollama-standin"
RELEASES = ("0.32.7", "0.32.9")


def make_release(mirror: Mirror, version: str) -> str:
    """An archive in upstream's layout with the stand-in as its program; returns the archive's sha256."""
    program = STANDIN.read_text().replace("@VERSION@", version).replace("@REGISTRY@", f"{mirror.name}:5000")
    # As large as it takes to be interrupted in the middle of a download or of the unpacking; not compressible.
    library = random.Random(version).randbytes(32_000_000)  # noqa: S311  (bytes that repeat, not secrets)
    files = {"bin/ollama": (program.encode(), 0o755), "lib/ollama/libggml-standin.so": (b"stand-in\n", 0o644),
             "lib/ollama/cuda_v13/libggml-cuda-standin.so": (library, 0o644)}
    release = mirror.web / f"github.com/ollama/ollama/releases/download/v{version}"
    release.mkdir(parents=True)
    plain = release / "ollama.tar"
    with tarfile.open(plain, "w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    archive = release / f"ollama-linux-{mirror.architecture}.tar.zst"
    mirror.run("zstd", "-q", "--rm", str(plain), "-o", str(archive))
    (release / "sha256sum.txt").write_text(f"{mirror.sha256(archive)}  ./{archive.name}\n")
    return mirror.sha256(archive)


def make(mirror: Mirror) -> dict[str, object]:
    return {"ollama_checksums": {version: {mirror.architecture: make_release(mirror, version)} for version in RELEASES}}
