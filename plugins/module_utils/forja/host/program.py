# SPDX-License-Identifier: Apache-2.0
"""Install a part of this very package on a host, where it runs without Ansible: as the package `forja` below /usr/local/lib/forja.

A release is a folder of its own, and a link says which one counts: whoever starts the program gets the old one or the new one, whole.
"""

import ast
import importlib.util
import os
import shutil
import tempfile
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from . import atomic as atomic_file

START = "mig.__main__"
HOME = "/usr/local/lib/forja"
LAUNCHER = "/usr/local/sbin/forja-mig"
PREFIX = "release-"
MODE = 0o755  # of folders and the launcher: everybody may run it, the driver says who may change what
_LAUNCHER = """#!%s -I
# Managed by Forja: changes made here are lost.
# The MIG program with the Python that has pynvml; -I keeps Python from reading modules of the folder it is started in.
import sys

sys.path.insert(0, "%s")
from forja.mig.__main__ import main

sys.exit(main())
"""

# The source of a module by its name within the package, and whether it is a package; None where there is none.
Read = Callable[[str], Any]


class State(NamedTuple):
    tree: Dict[str, bytes]  # what is behind the link, path -> content, without compiled files
    compiled: bool
    launcher: Optional[bytes]
    executable: bool
    idle: List[str]  # releases that no link names


def own_source(name: str) -> Any:
    """From wherever this module itself was loaded: a checkout, a collection, or the archive that Ansible sends to a host."""
    full = (__package__ or "").rpartition(".")[0] + ("." + name if name else "")  # this file is one package below the whole
    try:
        spec = importlib.util.find_spec(full)
    except (ImportError, AttributeError):  # Python 3.6 says the latter where a parent is no package
        spec = None
    if spec is None or spec.loader is None:
        return None
    return spec.loader.get_source(full), spec.submodule_search_locations is not None  # type: ignore[attr-defined]


def wanted_files(read: Read = own_source, start: str = START) -> Dict[str, bytes]:
    """The files of `start` and of everything that it imports from the package, by their paths below the package's parent."""
    files: Dict[str, bytes] = {}
    todo, seen = [start], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        found = read(name)
        if found is None:
            continue  # a function or a class, and no module
        source, package = found
        path = "/".join(["forja"] + name.split(".")) if name else "forja"
        files[path + "/__init__.py" if package else path + ".py"] = (source or "").encode("utf-8")
        todo += _imports(source or "", name, package)
        if name:
            todo.append(name.rpartition(".")[0])
    return files


def _imports(source: str, name: str, package: bool) -> List[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = name.split(".") if name else []
            parts = parts[: len(parts) - node.level + (1 if package else 0)]
            base = parts + (node.module.split(".") if node.module else [])
            found.append(".".join(base))
            found += [".".join(base + [alias.name]) for alias in node.names]
    return found


def launcher(interpreter: str) -> bytes:
    return (_LAUNCHER % (interpreter, HOME)).encode("utf-8")


def gather(home: str, launcher_path: str) -> State:
    link = os.path.join(home, "forja")
    tree: Dict[str, bytes] = {}
    compiled = True
    for folder, _folders, names in os.walk(link + "/") if os.path.isdir(link) else ():
        if os.path.basename(folder) == "__pycache__":
            continue
        made = os.listdir(os.path.join(folder, "__pycache__")) if os.path.isdir(os.path.join(folder, "__pycache__")) else []
        for name in names:
            path = os.path.join(folder, name)
            tree["forja/" + os.path.relpath(path, link + "/")] = atomic_file.read(path) or b""
            compiled = compiled and any(one.startswith(name[:-2]) for one in made)
    current = os.readlink(link).split("/")[0] if os.path.islink(link) else None
    idle = [name for name in (os.listdir(home) if os.path.isdir(home) else []) if name.startswith(PREFIX) and name != current]
    return State(tree, compiled, atomic_file.read(launcher_path), os.access(launcher_path, os.X_OK), sorted(idle))


def plan(state: State, files: Dict[str, bytes], text: Optional[bytes]) -> List[str]:
    """`text` is the launcher; None with no files: the program is to go."""
    steps = []
    if state.tree != files:
        changed = sorted(path for path in set(files) | set(state.tree) if files.get(path) != state.tree.get(path))
        steps.append(f"{'write' if files else 'remove'} {', '.join(changed)}")
    elif not state.compiled:
        steps.append("write the compiled files")
    if state.launcher != text or (text is not None and not state.executable):
        steps.append("write the launcher" if text is not None else "remove the launcher")
    if state.idle:
        steps.append(f"remove {', '.join(state.idle)}")
    return steps


def apply(home: str, launcher_path: str, files: Dict[str, bytes], text: Optional[bytes], compile_in: Callable[[str], None]) -> None:
    if not files:
        atomic_file.replace(launcher_path, None)
        shutil.rmtree(home, ignore_errors=True)
        return
    state = gather(home, launcher_path)
    if state.tree != files or not state.compiled:
        if not os.path.isdir(home):
            os.makedirs(home)
            os.chmod(home, MODE)
        release = tempfile.mkdtemp(prefix=PREFIX, dir=home)
        for path, content in files.items():
            atomic_file.replace(os.path.join(release, path), content)
        compile_in(release)
        _open_to_all(release)
        _point(os.path.join(home, "forja"), os.path.join(os.path.basename(release), "forja"))
    if text is not None:
        atomic_file.replace(launcher_path, text, MODE)
        os.chmod(launcher_path, MODE)
    for name in gather(home, launcher_path).idle:
        shutil.rmtree(os.path.join(home, name))


def _open_to_all(folder: str) -> None:
    """Whatever the umask of who installs: hardened hosts give root one that shuts all others out."""
    for parent, _folders, names in os.walk(folder):
        os.chmod(parent, MODE)
        for name in names:
            os.chmod(os.path.join(parent, name), MODE & ~0o111)


def _point(link: str, target: str) -> None:
    fresh = link + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    if os.path.isdir(link) and not os.path.islink(link):
        shutil.rmtree(link)  # somebody copied the files here by hand
    os.rename(fresh, link)
