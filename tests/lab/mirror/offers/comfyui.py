"""ComfyUI: a git repository with a small back end as a stand-in, and the real front end from PyPI; PyTorch as an empty stand-in."""

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path

from mirror import Mirror

DATA = Path(__file__).with_suffix("")
# What pip's indexes offer: the builds of PyTorch that the lab's hosts need. All of them say that they are stand-ins.
BUILDS = ("cpu", "cu130")
TORCH = "2.15.0"
GIT = ("git", "-c", "user.name=Forja lab", "-c", "user.email=lab@forja.test", "-c", "init.defaultBranch=main")
# The second has other requirements; the third does not start.
RELEASES = {
    "v0.38.1": ("comfyui-frontend-package==1.58.1\ntorch\n", ""),
    "v0.38.2": ("comfyui-frontend-package==1.58.1\ntorch\ntorchvision\n", ""),
    "v0.38.3": ("comfyui-frontend-package==1.58.1\ntorch\n", "raise SystemExit('this release of the stand-in does not start')\n"),
}


def wheel(folder: Path, name: str, version: str, content: str) -> None:
    """A package of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {f"{name}/__init__.py": content,
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: forja-lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: stand-in of the Forja lab\n"}
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)


def make(mirror: Mirror) -> dict[str, object]:
    mirror.install("git", "python3-pip")
    simple = mirror.web / "simple/comfyui-frontend-package"
    simple.mkdir(parents=True)
    mirror.run("env", "PIP_CERT=/etc/ssl/certs/ca-certificates.crt", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--require-hashes", f"--requirement={DATA / 'front_end.lock'}", f"--dest={simple}")
    for build in BUILDS:
        for name in ("torch", "torchvision", "torchaudio"):
            folder = mirror.web / f"download.pytorch.org/whl/{build}/{name}"
            wheel(folder, name, f"{TORCH}+{build}", f'"""Stand-in of the Forja lab."""\n__version__ = "{TORCH}+{build}"\n')
    work = Path("/tmp/comfyui")  # noqa: S108  (a stage of an image build has no other users)
    work.mkdir()
    mirror.run(*GIT, "init", "--quiet", cwd=work)
    shutil.copy(DATA / "server.py", work / "main.py")
    program = (work / "main.py").read_text()
    commits = {}
    for tag, (requirements, fault) in RELEASES.items():
        (work / "main.py").write_text(fault + program.replace("@VERSION@", tag[1:]))
        (work / "comfyui_version.py").write_text(f'__version__ = "{tag[1:]}"\n')
        (work / "requirements.txt").write_text(requirements)
        mirror.run(*GIT, "add", "--all", cwd=work)
        mirror.run(*GIT, "commit", "--quiet", f"--message=Stand-in of the Forja lab for ComfyUI {tag}", cwd=work)
        mirror.run(*GIT, "tag", tag, cwd=work)
        commits[tag] = mirror.run(*GIT, "rev-parse", "HEAD", cwd=work).strip()
    bare = mirror.web / "github.com/Comfy-Org/ComfyUI.git"
    bare.parent.mkdir(parents=True)
    mirror.run(*GIT, "clone", "--quiet", "--bare", str(work), str(bare))
    mirror.run(*GIT, "update-server-info", cwd=bare)  # so that a server of files is enough
    return {"lab_comfyui": commits}
