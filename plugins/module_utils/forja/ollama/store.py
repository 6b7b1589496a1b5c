# SPDX-License-Identifier: Apache-2.0
"""The folder of Ollama's models and the home of its user: whether the service can use them, how to make it so, how to remove them.

Source: Ollama 0.32 (server/modelpath.go): a store holds blobs/ and manifests/, everything else in its folder belongs to somebody else.
"""

import os
import shutil
import stat
from typing import List, NamedTuple, Tuple

from ..host.access import Access, Account, Mount, look, mount_of, try_writing
from ..host.errors import ForjaError

PARTS = ("blobs", "manifests")
IGNORED = frozenset(PARTS + ("lost+found",))
# File systems whose files all belong to whom the mount says: a chown is refused or does nothing.
WITHOUT_OWNERS = frozenset(("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "cifs", "smb3", "9p", "drvfs", "virtiofs"))
MODE = 0o750


class Store(NamedTuple):
    """What was found. `foreign` are names in the folder that Ollama did not write, `unusable` paths that its user cannot use."""

    access: Access
    mount: Mount
    foreign: List[str]
    parts: List[str]
    unusable: List[str]
    home: str
    home_unusable: List[str]
    home_deletable: List[str]


class Step(NamedTuple):
    """One thing to do, and the sentence that says so."""

    action: str  # create, give, repair, purge
    paths: Tuple[str, ...]
    text: str


def gather(path: str, home: str, user: Account) -> Store:
    """Look at the folder of the models as the service's user, and at its content and its mount as root."""
    access = look(path, user)
    with open("/proc/self/mountinfo") as file:
        mount = mount_of(access.path, file.read())
    names = sorted(os.listdir(access.path)) if access.kind == "folder" else []
    parts = [f"{access.path}/{name}" for name in names if name in PARTS]
    own = [folder for folder in (home, f"{home}/.ollama") if user.home == home and os.path.isdir(folder)]
    keys = [f"{own[1]}/{name}" for name in sorted(os.listdir(own[1])) if os.path.isfile(f"{own[1]}/{name}")] if len(own) > 1 else []
    return Store(access, mount, [name for name in names if name not in IGNORED], parts, unusable(parts, user), home,
                 [one for one in own + keys if not usable(one, user)], deletable(home))


def unusable(parts: List[str], user: Account) -> List[str]:
    """List the folders and files of a store that its user cannot use, by their mode bits."""
    found: List[str] = []
    for part in parts if user.exists else ():
        for folder, _folders, names in os.walk(part):
            found += [path for path in [folder] + [f"{folder}/{name}" for name in names] if not usable(path, user)]
    return found


def usable(path: str, user: Account) -> bool:
    """Whether a user may write to a folder and read a file, by the owner or the mode bits."""
    info = os.lstat(path)
    wanted = 0o3 if stat.S_ISDIR(info.st_mode) else 0o4
    if info.st_uid == user.uid or stat.S_ISLNK(info.st_mode):
        return True
    shift = 3 if info.st_gid == user.gid else 0
    return (info.st_mode >> shift) & wanted == wanted


def plan(store: Store, user: Account) -> List[Step]:
    """Plan what makes the folder usable. ForjaError names what stands in the way, and nothing is changed then."""
    access, mount = store.access, store.mount
    refuse(store, user)
    steps = []
    if not access.exists:
        steps.append(Step("create", (access.path,), f"create {access.path} for {user.name}"))
    elif not access.writable:
        steps.append(Step("give", (access.path,), f"give {access.path} to {user.name}"))
    if mount.kind not in WITHOUT_OWNERS and store.unusable:
        steps.append(Step("repair", tuple(store.parts), f"give {len(store.unusable)} files and folders in {access.path} to {user.name}"))
    if store.home_unusable:
        steps.append(Step("repair", tuple(store.home_unusable), f"give {', '.join(store.home_unusable)} to {user.name}"))
    return steps


def refuse(store: Store, user: Account) -> None:
    """Raise ForjaError where the service could not use the folder and this role must not make it so."""
    access, mount = store.access, store.mount
    path, name = access.path, user.name
    # The folder itself and the user's own home are made usable.
    if access.blocked and access.blocked != path and not f"{access.blocked}/".startswith(store.home + "/"):
        raise ForjaError(f"The models folder {path} cannot be reached by the user {name}: {describe(access.blocked)} may not be searched "
                         f"by that user. Choose a folder elsewhere, or allow it with: setfacl --modify u:{name}:x '{access.blocked}'")
    if access.kind == "other":
        raise ForjaError(f"The models folder {path} is not a folder. Choose another one or remove it.")
    if "ro" in mount.options:
        raise ForjaError(f"The models folder {path} is on {mount.point}, which is mounted read-only. Choose a folder elsewhere.")
    if store.foreign and not access.writable:
        shown = ", ".join(store.foreign[:3]) + (", ..." if len(store.foreign) > 3 else "")
        raise ForjaError(f"The models folder {path} holds files that are not Ollama's ({shown}) and {name} may not write to it. Use a "
                         f"folder of its own, such as {path}/ollama.")
    if mount.kind in WITHOUT_OWNERS and not access.writable:
        raise ForjaError(f"The models folder {path} is on {mount.point} ({mount.kind}), where files have no owners of their own, and "
                         f"{name} may not write there. Mount it with uid={name},gid={name}, or choose a folder on another file system.")


def describe(folder: str) -> str:
    """Describe a folder by its mode and its owner."""
    info = os.stat(folder)
    return f"{folder} (mode {stat.S_IMODE(info.st_mode):04o}, owner {info.st_uid}:{info.st_gid})"


def apply(store: Store, user: Account, steps: List[Step]) -> None:
    """Apply the steps, then write to the folder as the user. ForjaError where that fails."""
    if not user.exists:
        raise ForjaError(f"The user {user.name} does not exist; create it first.")
    for step in steps:
        try:
            for path in step.paths:
                _do(step.action, path, user, store.home, step.paths == tuple(store.parts))
        except OSError as error:
            raise ForjaError(f"Could not {step.text}: {error.strerror} ({store.mount.kind}, mounted on {store.mount.point}). Let the file "
                             "system allow it, or choose a folder on another one.") from error
    reason = try_writing(store.access.path, user)
    if reason:
        raise ForjaError(f"The user {user.name} cannot write to {store.access.path} ({store.mount.kind}, mounted on {store.mount.point}): "
                         f"{reason}. Give the folder to {user.name}, or choose another one.")


def plan_purge(store: Store) -> List[Step]:
    """Plan the removal of what Ollama wrote: its models, wherever they are, and the home of its user. Mount points stay."""
    path, steps = store.access.path, []
    if store.parts:
        steps.append(Step("purge", tuple(store.parts), f"delete the models in {path}"))
    inside = f"{path}/".startswith(store.home + "/")
    if store.access.kind == "folder" and not store.foreign and store.mount.point != path and not inside:
        steps.append(Step("purge", (path,), f"remove {path}, which is then empty"))
    if store.home_deletable:
        steps.append(Step("purge", tuple(store.home_deletable), f"delete {', '.join(store.home_deletable)}"))
    return steps


def deletable(path: str) -> List[str]:
    """List what can be deleted of a folder so that every mount point in it stays: the folder itself where there is none."""
    if not os.path.lexists(path):
        return []
    if os.path.islink(path) or not os.path.isdir(path):
        return [path]
    if not any(os.path.ismount(folder) for folder, _folders, _names in os.walk(path)):
        return [path]
    children = [f"{path}/{name}" for name in sorted(os.listdir(path)) if name != "lost+found"]
    return [one for child in children if not os.path.ismount(child) for one in deletable(child)]


def apply_purge(steps: List[Step]) -> None:
    """Delete the paths of the steps; one that another step has deleted already is no error."""
    for step in steps:
        for path in step.paths:
            if os.path.islink(path) or os.path.isfile(path):
                os.unlink(path)
            elif os.path.isdir(path):
                shutil.rmtree(path)


def _do(action: str, path: str, user: Account, home: str, whole: bool) -> None:
    if action == "create":
        _make_parents(os.path.dirname(path), user, home)
        os.mkdir(path, MODE)
    if action in ("create", "give"):
        os.chown(path, user.uid, user.gid)
        os.chmod(path, MODE)
    else:
        os.lchown(path, user.uid, user.gid)
        for folder, folders, names in os.walk(path) if whole else ():
            for name in folders + names:
                os.lchown(f"{folder}/{name}", user.uid, user.gid)


def _make_parents(folder: str, user: Account, home: str) -> None:
    """Create the folders on the way; those in the user's home belong to the user."""
    if os.path.isdir(folder):
        return
    _make_parents(os.path.dirname(folder), user, home)
    os.mkdir(folder, 0o755)
    if f"{folder}/".startswith(home + "/"):
        os.chown(folder, user.uid, user.gid)
