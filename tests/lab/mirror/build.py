"""Fills the mirror while its image is built: authority, Ollama archives, Docker's apt repository, registry.

Every stand-in says so in its version or description. What a site's inventory would state about its mirror (checksums,
fingerprints, the authority) goes to /srv/lab.json, from which playbooks/lab/up.yml writes the lab's inventory.
"""

import hashlib
import io
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import nvidia_repository
import ubuntu_archive
from apt_archive import forget_key, make_key, sign
from publish_model import CONFIG, MANIFEST, publish, push

HERE = Path(__file__).parent
WEB = Path("/srv/mirror")
TLS = Path("/etc/forja-lab")
LOCAL_REGISTRY = "127.0.0.1:5001"
OLLAMA_RELEASES = ("0.32.7", "0.32.9")
ARCHITECTURE = platform.machine().replace("x86_64", "amd64").replace("aarch64", "arm64")
MODELS = {"library/llama3.2:1b": 4_000_000, "library/smollm:135m": 24_000_000}


def run(*argv: str, cwd: Path | None = None, stdin: str | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, input=stdin, check=False, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_authority(name: str) -> str:
    """The site's certificate authority and the registry's certificate; returns the authority as PEM."""
    TLS.mkdir(mode=0o755)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650",
        "-subj", "/CN=Forja lab authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign", cwd=TLS)
    run("openssl", "req", "-x509", *key, "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.crt",
        "-days", "825", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
        "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth", cwd=TLS)
    (TLS / "ca.key").unlink()
    shutil.chown(TLS / "server.key", "docker-registry")
    return (TLS / "ca.crt").read_text()


def make_ollama(version: str, registry: str) -> str:
    """An archive in upstream's layout with the stand-in as its program; returns the archive's sha256."""
    program = (HERE / "ollama-standin").read_text().replace("@VERSION@", version).replace("@REGISTRY@", registry)
    # As large as it takes to be interrupted in the middle of a download or of the unpacking; not compressible.
    library = random.Random(version).randbytes(32_000_000)  # noqa: S311  (bytes that repeat, not secrets)
    files = {"bin/ollama": (program.encode(), 0o755), "lib/ollama/libggml-standin.so": (b"stand-in\n", 0o644),
             "lib/ollama/cuda_v13/libggml-cuda-standin.so": (library, 0o644)}
    release = WEB / f"github.com/ollama/ollama/releases/download/v{version}"
    release.mkdir(parents=True)
    plain = release / "ollama.tar"
    with tarfile.open(plain, "w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    archive = release / f"ollama-linux-{ARCHITECTURE}.tar.zst"
    run("zstd", "-q", "--rm", str(plain), "-o", str(archive))
    (release / "sha256sum.txt").write_text(f"{sha256(archive)}  ./{archive.name}\n")
    return sha256(archive)


def repack(source: str, name: str, version: str, fields: dict[str, str], merge: str = "") -> None:
    """Makes Debian's package `source` (and the files of `merge`) into a package with the name that Docker gives it."""
    tree = Path(name)
    if source:
        run("dpkg-deb", "-R", str(next(Path().glob(f"{source}_*.deb"))), name)
    else:
        (tree / "DEBIAN").mkdir(parents=True)
    if merge:
        run("dpkg-deb", "-x", str(next(Path().glob(f"{merge}_*.deb"))), name)
    control = tree / "DEBIAN/control"
    old = control.read_text() if source else f"Architecture: {ARCHITECTURE}\nMaintainer: Forja lab <lab@forja.test>\n"
    depends = "".join(re.findall(r"^Depends: (.*)$", old, re.M))
    # What Debian splits, Docker ships together: the dependencies on the split packages go.
    kept = [d for d in depends.split(", ") if d and not re.match(r"(containerd|runc|docker-cli)\b", d)]
    dropped = ("Package", "Version", "Depends", "Source", "Recommends", "Suggests", "Breaks", "Conflicts", "Replaces", "Provides",
               "Description", "Built-Using", "Static-Built-Using", "Enhances")
    lines, keep = [], True
    for line in old.splitlines():
        if not line.startswith(" "):
            keep = line.split(":")[0] not in dropped
        if keep:
            lines.append(line)
    extra = fields.pop("Depends", "")
    fields = {"Package": name, "Version": version, "Depends": ", ".join([*kept, *([extra] if extra else [])]), **fields,
              "Description": f"stand-in of the Forja lab: {'Debian ' + source if source else 'nothing'} under the name {name}"}
    control.write_text("\n".join(lines + [f"{key}: {value}" for key, value in fields.items() if value]) + "\n")
    (tree / "DEBIAN/md5sums").unlink(missing_ok=True)
    run("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", name, f"{name}.deb")


def make_docker_repository() -> dict[str, str]:
    """download.docker.com with packages of Docker's names, signed with the mirror's own key; returns what a site pins."""
    build = Path("/build")
    build.mkdir()
    os.chdir(build)
    run("apt-get", "download", "docker.io", "docker-cli", "containerd", "runc")
    engine = re.search(r"docker\.io_([^+_-]+)", next(build.glob("docker.io_*.deb")).name)
    containerd = re.search(r"containerd_([^~+_-]+)", next(build.glob("containerd_*.deb")).name)
    assert engine is not None
    assert containerd is not None
    version = f"5:{engine[1]}-1~debian.13~trixie+standin"
    repack("containerd", "containerd.io", f"{containerd[1]}-1~debian.13~trixie+standin",
           {"Provides": "containerd, runc", "Conflicts": "containerd, runc", "Replaces": "containerd, runc"}, merge="runc")
    repack("docker-cli", "docker-ce-cli", version, {"Conflicts": "docker-cli", "Replaces": "docker-cli"})
    repack("docker.io", "docker-ce", version,
           {"Depends": "containerd.io, docker-ce-cli", "Conflicts": "docker.io", "Replaces": "docker.io"})
    for plugin in ("docker-buildx-plugin", "docker-compose-plugin"):
        repack("", plugin, version, {})

    root = WEB / "download.docker.com/linux/debian"
    pool, index = root / f"dists/trixie/pool/stable/{ARCHITECTURE}", root / f"dists/trixie/stable/binary-{ARCHITECTURE}"
    for folder in (pool, index):
        folder.mkdir(parents=True)
    for package in build.glob("*.deb"):
        if "_" not in package.name:
            shutil.copy(package, pool)
    packages = run("apt-ftparchive", "packages", "dists/trixie/pool", cwd=root)
    (index / "Packages").write_text(packages)
    suite = root / "dists/trixie"
    names = {"Origin": "Docker", "Label": "Docker CE (Forja lab stand-in)", "Suite": "trixie", "Codename": "trixie",
             "Architectures": ARCHITECTURE, "Components": "stable"}
    key = make_key(run, build / "gnupg", "mirror")
    sign(run, suite, names)
    (root / "gpg").write_text(key.armored)
    forget_key(run)
    os.chdir("/")
    shutil.rmtree(build)
    return {"docker_apt_key_fingerprint": key.fingerprint, "docker_apt_key_sha256": sha256(root / "gpg")}


def push_hello() -> None:
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
        "architecture": ARCHITECTURE, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]},
        "config": {"Env": ["PATH=/bin"], "Cmd": ["echo", "Hello from the registry of the Forja lab"]},
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": len(layer.getvalue()), "digest": diff}],
    }).encode()
    push(f"http://{LOCAL_REGISTRY}/v2/forja/hello", "1", manifest, {digest(config): config, diff: layer.getvalue()})


def fill_registry() -> dict[str, str]:
    """Pushes a small image and the models; returns the models' digests."""
    config = Path("/etc/docker/registry/config.yml")
    final = (HERE / "registry.yml").read_text()
    config.write_text(final[:final.index("http:")] + f"http: {{addr: '{LOCAL_REGISTRY}'}}\n")
    server = subprocess.Popen(["docker-registry", "serve", str(config)])
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{LOCAL_REGISTRY}/v2/", timeout=1)  # noqa: S310  (the registry just started)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        push_hello()
        return {name: publish(f"http://{LOCAL_REGISTRY}", name, size) for name, size in MODELS.items()}
    finally:
        server.terminate()
        server.wait()
        config.write_text(final)
        run("chown", "-R", "docker-registry:", "/var/lib/docker-registry")


def main(name: str) -> None:
    authority = make_authority(name)
    variables: dict[str, object] = {
        **make_docker_repository(),
        **nvidia_repository.make(run, WEB, ARCHITECTURE),
        "ollama_checksums": {version: {ARCHITECTURE: make_ollama(version, f"{name}:5000")} for version in OLLAMA_RELEASES},
        "lab_models": fill_registry(),
    }
    ubuntu_archive.make(run, WEB, ARCHITECTURE)
    shutil.copy(HERE / "nginx.conf", "/etc/nginx/sites-available/default")
    Path("/srv/lab.json").write_text(json.dumps({"ca": authority, "variables": variables}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
