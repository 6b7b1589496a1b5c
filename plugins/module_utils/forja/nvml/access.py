# SPDX-License-Identifier: Apache-2.0
"""Whether NVML can be asked on a host, and by which Python; told from files, so that nothing is loaded in vain."""

import re
from typing import Any, Callable, Optional

from ..host.files import HostFiles


def why_not(files: HostFiles) -> Optional[str]:
    """The reason why asking NVML would be useless here, from files alone; None when it may answer."""
    if files.root != "/":
        return "another tree than / is read: NVML would describe this machine"
    if files.exists("/dev/dxg"):
        return None
    if not files.exists("/proc/driver/nvidia/version") and not files.exists("/dev/nvidiactl"):
        return "the nvidia kernel module is not loaded"
    return None


PRIVATE = "/opt/forja/python"  # the environment that the module nvml_binding makes where the distribution has no pynvml


def interpreter_with_binding(files: HostFiles) -> Optional[str]:
    """A Python whose packages include pynvml, the distribution's before our own, found by looking at folders: nothing is started."""
    for base, packages in (("/usr/lib", "dist-packages"), ("/usr/local/lib", "dist-packages"), ("/usr/lib", "site-packages")):
        for name in files.names(base):
            if re.match(r"python3(\.\d+)?$", name) and files.exists(f"{base}/{name}/{packages}/pynvml.py"):
                interpreter = "/usr/bin/" + name
                if files.exists(interpreter):
                    return interpreter
    return private_interpreter(files)


def private_interpreter(files: HostFiles) -> Optional[str]:
    """The Python of our own environment, if it has pynvml.

    After an upgrade of the distribution's Python the environment's packages lie in a folder that the new one does not look into.
    """
    interpreter = PRIVATE + "/bin/python3"
    version = files.resolve(interpreter).rpartition("/")[2]
    return interpreter if files.exists(f"{PRIVATE}/lib/{version}/site-packages/pynvml.py") and files.exists(interpreter) else None


def binding(files: HostFiles, has_respawned: Callable[[], bool], respawn: Callable[[str], Any]) -> Any:
    """pynvml, from this interpreter or by starting the module again in one that has it; None when none has.

    The functions are those of ansible.module_utils.common.respawn.
    """
    try:
        import pynvml
    except Exception:  # a binding for Python 2, or a damaged one, raises whatever it likes
        interpreter = interpreter_with_binding(files)
        if interpreter and not has_respawned():
            respawn(interpreter)
        return None
    return pynvml
