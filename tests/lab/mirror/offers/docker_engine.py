"""download.docker.com: Debian's engine in packages of Docker's names, signed with a key of the mirror's own."""

import os
import re
import shutil
from pathlib import Path

from apt_archive import forget_key, make_key, sign
from mirror import Mirror, run


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
    old = control.read_text() if source else f"Architecture: {Mirror.architecture}\nMaintainer: Forja lab <lab@forja.test>\n"
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


def make(mirror: Mirror) -> dict[str, object]:
    build = Path("/build")
    build.mkdir()
    os.chdir(build)
    mirror.download("docker.io", "docker-cli", "containerd", "runc", to=build)
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

    root = mirror.web / "download.docker.com/linux/debian"
    pool, index = root / f"dists/trixie/pool/stable/{Mirror.architecture}", root / f"dists/trixie/stable/binary-{Mirror.architecture}"
    for folder in (pool, index):
        folder.mkdir(parents=True)
    for package in build.glob("*.deb"):
        if "_" not in package.name:
            shutil.copy(package, pool)
    packages = run("apt-ftparchive", "packages", "dists/trixie/pool", cwd=root)
    (index / "Packages").write_text(packages)
    suite = root / "dists/trixie"
    names = {"Origin": "Docker", "Label": "Docker CE (Forja lab stand-in)", "Suite": "trixie", "Codename": "trixie",
             "Architectures": Mirror.architecture, "Components": "stable"}
    key = make_key(run, build / "gnupg", "mirror")
    sign(run, suite, names)
    (root / "gpg").write_text(key.armored)
    forget_key(run)
    os.chdir("/")
    shutil.rmtree(build)
    return {"docker_apt_key_fingerprint": key.fingerprint, "docker_apt_key_sha256": mirror.sha256(root / "gpg")}
