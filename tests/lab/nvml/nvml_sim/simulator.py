# SPDX-License-Identifier: Apache-2.0
"""What happens to GPUs outside of NVML: booting, resets, users coming and going, faults; and looking at what was called."""

from __future__ import annotations

import ctypes
import fcntl
import fnmatch
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import board
from .layout import CODES, FUNCTIONS, NAMES, NONE, NUMBERS, State

ACTIONS = {"code": "SIM_ACTION_CODE", "delay": "SIM_ACTION_DELAY", "kill": "SIM_ACTION_KILL", "activation": "SIM_ACTION_ACTIVATION"}


class SimulatorError(Exception):
    """The simulator cannot do what it was asked; the message says why, `code` as NVML numbers it."""

    def __init__(self, message: str, code: int = CODES["UNKNOWN"]) -> None:
        super().__init__(message)
        self.code = code


class Simulator:
    """The GPUs of one state file. Every method takes the lock that the library takes, so it sees and leaves whole states."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _open(self, *, create: bool = False, change: bool = True) -> Iterator[Any]:
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        except FileNotFoundError:
            raise SimulatorError(f"{self.path} does not exist; `boot` makes it") from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
            size = ctypes.sizeof(State)
            if create:
                # In place, never by renaming: programs that have it mapped shall see the new machine.
                os.fchmod(descriptor, 0o666)  # like /dev/nvidia0: who may do what is NVML's decision
                os.ftruncate(descriptor, size)
                state = State()
            else:
                data = os.pread(descriptor, size + 1, 0)
                if len(data) != size:
                    raise SimulatorError(f"{self.path} was made by another version; boot it anew")
                state = State.from_buffer_copy(data)
                if (state.magic, state.version) != (NUMBERS["SIM_MAGIC"], NUMBERS["SIM_VERSION"]):
                    raise SimulatorError(f"{self.path} was made by another version; boot it anew")
            yield state
            if change:
                os.pwrite(descriptor, bytes(state), 0)
        finally:
            os.close(descriptor)

    # --- machines ------------------------------------------------------------------------------------------------------

    def boot(self, machine: dict[str, Any], owner: int = 0) -> None:
        """A new machine, switched on for the first time. `owner` is a user with root's rights to the GPUs."""
        board.expand(machine)  # refuses before anything is touched
        with self._open(create=True) as state:
            state.magic, state.version, state.size = NUMBERS["SIM_MAGIC"], NUMBERS["SIM_VERSION"], ctypes.sizeof(State)
            state.owner, state.boots, state.description = owner, 1, _digest(machine)
            board.fill(state, machine)

    def give_to(self, owner: int) -> None:
        """Let another user have root's rights to the GPUs."""
        with self._open() as state:
            state.owner = owner

    def privileged(self) -> bool:
        """Whether this process may do what only root may."""
        with self._open(change=False) as state:
            return os.geteuid() in (0, state.owner)

    def reboot(self) -> None:
        """The machine restarts: instances and processes are gone, and on newer GPUs the mode too."""
        with self._open() as state:
            state.boots += 1
            ctypes.memset(ctypes.byref(state.processes), 0, ctypes.sizeof(state.processes))
            _power_cycle(state)

    def start(self, machine: dict[str, Any]) -> None:
        """For a host that boots: its GPUs reboot with it. The first time, and with other hardware, they are made."""
        try:
            with self._open(change=False) as state:
                same = state.description == _digest(machine)
        except SimulatorError:
            same = False
        if same:
            self.reboot()
        else:
            self.boot(machine)

    def driver_reload(self) -> None:
        """The kernel modules are unloaded and loaded: loses what a reboot loses, and needs every GPU idle."""
        with self._open() as state:
            users = [process.pid for process in state.processes if process.used and _alive(process)]
            if users:
                raise SimulatorError(f"the module nvidia is in use by processes {users}", CODES["IN_USE"])
            _power_cycle(state)

    def reset(self, names: list[str]) -> None:
        """What `nvidia-smi -r -i` does to GPUs: all of them, or none when one cannot be reset."""
        with self._open() as state:
            chosen = [_find(state, name) for name in names]
            refusal = _refusal(state, chosen)
            for index in chosen:
                _log(state, "gpuReset", index, refusal.code if refusal else 0)
                if not refusal:
                    _forget_instances(state.gpus[index])
                    state.gpus[index].mig_current = state.gpus[index].mig_pending
        if refusal:
            raise refusal

    # --- users of GPUs -------------------------------------------------------------------------------------------------

    def process_add(self, gpu: str, pid: int, *, gi: int | None = None, ci: int | None = None, memory_mib: int = 0) -> None:
        """A running process uses a GPU, or one instance of it, until it ends or is removed."""
        started = _started(pid)
        if started is None:
            raise SimulatorError(f"there is no process {pid}")
        with self._open() as state:
            index = _find(state, gpu)
            if gi is not None and not _exists(state.gpus[index], gi, ci):
                raise SimulatorError(f"GPU {gpu} has no instance {gi}" + ("" if ci is None else f" with compute instance {ci}"))
            place = next((process for process in state.processes if not process.used or not _alive(process)), None)
            if place is None:
                raise SimulatorError(f"{len(state.processes)} processes are registered already")
            place.used, place.pid, place.started, place.memory_mib = 1, pid, started, memory_mib
            place.gpu, place.gi, place.ci = index, NONE if gi is None else gi, NONE if ci is None else ci

    def process_remove(self, gpu: str, pid: int) -> None:
        """The process lets go of the GPU."""
        with self._open() as state:
            index = _find(state, gpu)
            mine = [process for process in state.processes if process.used and (process.gpu, process.pid) == (index, pid)]
            if not mine:
                raise SimulatorError(f"process {pid} is not registered on GPU {gpu}")
            for process in mine:
                process.used = 0

    # --- faults and calls ----------------------------------------------------------------------------------------------

    def fault(self, functions: str, nth: int, action: str, value: int = 0, *, after: bool = False, times: int = 1) -> None:
        """Something goes wrong at the nth call from now of the functions.

        functions: a name, a pattern such as `nvmlDeviceGet*`, `any`, or `changing` (those that can alter a GPU)
        action: code (the call returns value), delay (of value milliseconds), kill (SIGKILL to the caller), or activation
            (a mode change succeeds but its status is value, and it stays pending)
        after: the call has had its effect already
        times: how many calls in a row; 0 for all
        """
        names = [name for name in NAMES if _matches(name, functions)]
        if not names:
            raise SimulatorError(f"no function is called {functions!r}")
        if nth < 1 or action not in ACTIONS:
            raise SimulatorError(f"the first call is number 1, and actions are {sorted(ACTIONS)}")
        with self._open() as state:
            place = next((fault for fault in state.faults if not fault.times), None)
            if place is None:
                raise SimulatorError(f"{len(state.faults)} faults are set already")
            place.times, place.remaining, place.after = times or NONE, nth, after
            place.action, place.value = NUMBERS[ACTIONS[action]], value
            ctypes.memset(ctypes.byref(place.functions), 0, ctypes.sizeof(place.functions))
            for name in names:
                number = NAMES.index(name)
                place.functions[number // 64] |= 1 << number % 64

    def clear_faults(self) -> None:
        with self._open() as state:
            ctypes.memset(ctypes.byref(state.faults), 0, ctypes.sizeof(state.faults))

    def calls(self, *, reset: bool = False) -> dict[str, Any]:
        """How often each function was called since boot or the last reset of the counts, and the latest calls in order."""
        with self._open(change=reset) as state:
            kept = min(state.calls, NUMBERS["SIM_LOG"])
            log = [_call(state.log[number % NUMBERS["SIM_LOG"]]) for number in range(state.calls - kept, state.calls)]
            counts = {name: state.counts[number] for number, name in enumerate(NAMES) if state.counts[number]}
            answer = {
                "total": state.calls,
                "changing": sum(count for name, count in counts.items() if FUNCTIONS[name]),
                "counts": counts,
                "log": log,
                "lost": state.calls - kept,
            }
            if reset:
                state.calls = 0
                ctypes.memset(ctypes.byref(state.counts), 0, ctypes.sizeof(state.counts))
        return answer

    # --- looking -------------------------------------------------------------------------------------------------------

    def show(self) -> dict[str, Any]:
        """The machine as it is: nothing in it changes by looking."""
        with self._open(change=False) as state:
            return {
                "driver": state.driver.decode(),
                "boots": state.boots,
                "gpus": [_show(state, index) for index in range(state.gpu_count)],
            }

    def mig_minors(self) -> str:
        """What /proc/driver/nvidia-caps/mig-minors says: the device nodes' numbers of every instance that could be."""
        lines = ["config 1", "monitor 2"]
        with self._open(change=False) as state:
            capable = [index for index in range(state.gpu_count) if state.gpus[index].mig_capable]
        instances, computes = NUMBERS["SIM_INSTANCES"], NUMBERS["SIM_COMPUTES"]
        for gpu in capable:
            for gi in range(instances):
                number = 3 + (gpu * instances + gi) * (1 + computes)
                lines.append(f"gpu{gpu}/gi{gi}/access {number}")
                lines += [f"gpu{gpu}/gi{gi}/ci{ci}/access {number + 1 + ci}" for ci in range(computes)]
        return "\n".join(lines) + "\n"


def load(source: str) -> dict[str, Any]:
    """A machine's description: a file, or the name of one in machines/."""
    path = Path(source)
    if not path.exists():
        path = board.FOLDER / "machines" / f"{source.removesuffix('.json')}.json"
    try:
        machine: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(file.stem for file in (board.FOLDER / "machines").glob("*.json"))
        raise SimulatorError(f"{source} is neither a file nor one of {known}") from None
    except ValueError as error:
        raise SimulatorError(f"{path}: {error}") from None
    return machine


def _digest(machine: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest().encode()


def _forget_instances(gpu: Any) -> None:
    ctypes.memset(ctypes.byref(gpu.instances), 0, ctypes.sizeof(gpu.instances))


def _power_cycle(state: Any) -> None:
    """Ampere has the mode in the board's InfoROM; from Hopper on only the loaded driver knows it."""
    for gpu in state.gpus[: state.gpu_count]:
        _forget_instances(gpu)
        gpu.mig_pending = gpu.mig_pending if gpu.mode_survives_reboot else 0
        gpu.mig_current = gpu.mig_pending
        gpu.persistence = 0


def _find(state: Any, name: str) -> int:
    """A GPU's index, by index, UUID or PCI address."""
    for index in range(state.gpu_count):
        gpu = state.gpus[index]
        if name in (str(index), gpu.uuid.decode()):
            return index
        if ":" in name and (gpu.domain, gpu.bus, gpu.device) == _address(name):
            return index
    raise SimulatorError(f"there is no GPU {name}", CODES["NOT_FOUND"])


def _address(text: str) -> tuple[int, int, int] | None:
    try:
        return board.parse_address(text)
    except board.MachineError:
        return None


def _refusal(state: Any, chosen: list[int]) -> SimulatorError | None:
    """Why these GPUs cannot be reset together."""
    for index in chosen:
        gpu = state.gpus[index]
        code = _fault_of_reset(state)
        users = [process.pid for process in state.processes if process.used and process.gpu == index and _alive(process)]
        linked = [other for other in range(state.gpu_count) if gpu.link_group and state.gpus[other].link_group == gpu.link_group]
        if code:
            return SimulatorError(f"GPU {index} could not be reset (a fault was set)", code)
        if users:
            return SimulatorError(f"GPU {index}: In use by another client (processes {users})", CODES["IN_USE"])
        if gpu.passthrough:
            return SimulatorError(f"GPU {index}: resetting is not supported in a virtual machine", CODES["NOT_SUPPORTED"])
        if set(linked) - set(chosen):
            return SimulatorError(f"GPU {index} is linked with others: reset {linked} together", CODES["IN_USE"])
    return None


def _fault_of_reset(state: Any) -> int:
    """As fault_of() in state.c, for the one call that does not go through the library."""
    number = NAMES.index("gpuReset")
    for fault in state.faults:
        if not fault.times or not fault.functions[number // 64] >> number % 64 & 1:
            continue
        if fault.remaining > 1:
            fault.remaining -= 1
            continue
        if fault.times != NONE:
            fault.times -= 1
        if fault.action == NUMBERS["SIM_ACTION_DELAY"]:
            time.sleep(fault.value / 1000)
        if fault.action == NUMBERS["SIM_ACTION_KILL"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return int(fault.value) if fault.action == NUMBERS["SIM_ACTION_CODE"] else 0
    return 0


def _log(state: Any, name: str, gpu: int, result: int) -> None:
    call = state.log[state.calls % NUMBERS["SIM_LOG"]]
    state.calls += 1
    state.counts[NAMES.index(name)] += 1
    call.function, call.pid, call.gpu, call.result = NAMES.index(name), os.getpid(), gpu, result
    call.gi = call.ci = call.value = NONE


def _matches(name: str, functions: str) -> bool:
    if functions in ("any", "changing"):
        return functions == "any" or FUNCTIONS[name]
    return fnmatch.fnmatchcase(name, functions)


def _known(value: int) -> int | None:
    return None if value == NONE else value


def _call(call: Any) -> dict[str, Any]:
    """`result` is None for a call whose caller was killed in it."""
    name = NAMES[call.function]
    parts = {"gpu": call.gpu, "gi": call.gi, "ci": call.ci, "value": call.value, "result": call.result}
    return {"call": name, "changing": FUNCTIONS[name], "pid": call.pid, **{key: _known(value) for key, value in parts.items()}}


def _exists(gpu: Any, gi: int, ci: int | None) -> bool:
    if not 0 <= gi < len(gpu.instances) or not gpu.instances[gi].used:
        return False
    return ci is None or (0 <= ci < len(gpu.instances[gi].compute) and bool(gpu.instances[gi].compute[ci].used))


def _started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None once it has ended, waited for or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _alive(process: Any) -> bool:
    return bool(_started(process.pid) == process.started)


def _show(state: Any, index: int) -> dict[str, Any]:
    gpu = state.gpus[index]
    instances = [_show_instance(gpu, number) for number in range(len(gpu.instances)) if gpu.instances[number].used]
    users = [process for process in state.processes if process.used and process.gpu == index and _alive(process)]
    return {
        "index": index,
        "name": gpu.name.decode(),
        "uuid": gpu.uuid.decode(),
        "address": f"{gpu.domain:04x}:{gpu.bus:02x}:{gpu.device:02x}.0",
        "mig": {"current": gpu.mig_current, "pending": gpu.mig_pending} if gpu.mig_capable else None,
        "instances": instances,
        "processes": [{"pid": user.pid, "gi": _known(user.gi), "ci": _known(user.ci)} for user in users],
    }


def _show_instance(gpu: Any, number: int) -> dict[str, Any]:
    instance = gpu.instances[number]
    profile = gpu.profiles[instance.profile]
    name = profile.name.decode()
    compute = []
    for ci, part in enumerate(instance.compute):
        if part.used:
            slices = profile.compute[part.profile].slices
            place = {"start": part.start, "size": part.size, "uuid": gpu.mig_uuids[number][part.start].value.decode()}
            compute.append({"id": ci, "name": name if slices == profile.slices else f"{slices}c.{name}", "profile": part.profile, **place})
    return {"id": number, "profile": name, "profile_id": profile.id, "start": instance.start, "size": instance.size, "compute": compute}
