# SPDX-License-Identifier: Apache-2.0
"""Reset GPUs, for which NVML has no call and nvidia-smi has."""

import contextlib
from typing import List, Sequence

from ...host.files import HostFiles
from ...host.run import Result, Run
from ..layout.card import Gpu
from .reader import Reader
from .session import GatewayError

# nvidia-smi itself waits for the driver without end. At boot the unit has 180 s, of which 60 may go to waiting for the driver: a reset that
# is given up then leaves time to put everything back.
SECONDS = 100.0
_KILLED = 5.0  # to end once killed; a process that hangs in the driver does not, and is left behind

def run(argv: List[str]) -> Result:
    """Raises OSError, of which TimeoutError is one. No pipe: a process that cannot be killed would hold its end open."""
    import subprocess  # a run that resets nothing, as nearly all, need not wait for these
    import tempfile

    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT)
        try:
            code = process.wait(SECONDS)
        except BaseException as error:  # also a signal that stops us: nobody shall reset a GPU that is being put back
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILLED)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(
                    f"{argv[0]} has not ended within {SECONDS:g} s and was given up; see the kernel log for what the driver does"
                ) from None
            raise
        told.seek(0)
        return Result(code, told.read().decode("utf-8", "replace"), "")


class Resets:
    """Call it with the GPUs."""

    def __init__(self, gateway: Reader, run: Run, files: HostFiles) -> None:
        self._gateway = gateway
        self._run = run
        self._files = files

    def __call__(self, gpus: Sequence[Gpu]) -> None:
        """Together. The output of nvidia-smi says why a GPU cannot be reset."""
        addresses = ",".join(gpu.address for gpu in self._with_peers(gpus))
        try:
            with self._gateway.away():
                code, *told = self._run(["nvidia-smi", "--gpu-reset", "-i", addresses])
        except OSError as error:  # no nvidia-smi, or it hangs
            raise GatewayError(f"Resetting {addresses}", error) from error
        if code:
            why = "".join(told).strip() or f"nvidia-smi exits with {code}"
            why += "\nWithout `reset`, the mode is asked for and comes with a reboot"
            raise GatewayError(f"Resetting {addresses}", RuntimeError(why))

    def _with_peers(self, gpus: Sequence[Gpu]) -> List[Gpu]:
        """On an NVSwitch system of the Ampere generation all GPUs of the fabric are reset together, or none.

        Later generations change the mode without a reset, so that this is never asked of them.
        """
        chosen = {gpu.index for gpu in gpus}
        if not self._has_nvswitch():
            return list(gpus)
        peers = [gpu for gpu in self._gateway.gpus() if gpu.device in {one.device for one in gpus}]
        for peer in peers:
            busy = self._gateway.processes(peer)
            if peer.index not in chosen and (peer.instances or busy):
                raise GatewayError(
                    f"Resetting GPU {', '.join(str(number) for number in sorted(chosen))}",
                    RuntimeError(
                        f"GPU {peer.index} hangs on the same NVSwitches, must be reset with it, and "
                        f"{'holds MIG instances' if peer.instances else f'runs pid {busy[0].pid}'}"
                    ),
                )
        return peers

    def _has_nvswitch(self) -> bool:
        # PCI class 0x0680, bridge of no other kind, by NVIDIA: what NVSwitches are.
        base = "/sys/bus/pci/devices"
        return any(
            self._files.word(f"{base}/{name}/vendor") == "0x10de"
            and (self._files.word(f"{base}/{name}/class") or "").startswith("0x0680")
            for name in self._files.names(base)
        )
