"""Ollama's releases: archives in its layout with the stand-in as their program, and the real llama.cpp from PyPI that runs the models."""

import io
import tarfile
import zipfile
from pathlib import Path

from mirror import Mirror

DATA = Path(__file__).with_suffix("")
RELEASES = ("0.32.7", "0.32.9")


def llama(mirror: Mirror) -> dict[str, bytes]:
    """The files of the package that brings llama.cpp's server as a library."""
    mirror.install("python3-pip")
    mirror.run("env", "PIP_CERT=/etc/ssl/certs/ca-certificates.crt", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--require-hashes", f"--requirement={DATA / 'llama.lock'}", "--dest=/tmp/llama")
    folder = Path("/tmp/llama")  # noqa: S108  (a stage of an image build has no other users)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name.startswith("xllamacpp/") and not name.endswith("/")}
    found["libgomp.so.1"] = Path("/build/libgomp.so.1").read_bytes()
    return {f"lib/ollama/llama/{name}": content for name, content in found.items()}


def make_release(mirror: Mirror, version: str, library: dict[str, bytes]) -> str:
    """An archive in upstream's layout, large enough to be interrupted; returns the archive's sha256."""
    program = (DATA / "ollama-standin").read_text().replace("@VERSION@", version).replace("@REGISTRY@", f"{mirror.name}:5000")
    files = {"bin/ollama": (program.encode(), 0o755), **{name: (content, 0o644) for name, content in library.items()}}
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
    library = llama(mirror)
    return {"ollama_checksums": {version: {mirror.architecture: make_release(mirror, version, library)} for version in RELEASES}}
