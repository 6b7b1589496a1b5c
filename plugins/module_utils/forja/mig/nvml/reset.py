# SPDX-License-Identifier: Apache-2.0
"""Reset GPUs, for which NVML has no call and nvidia-smi has."""

import contextlib
from typing import List, Sequence

from ...host.files import HostFiles
from ...host.run import Result, Run
from ..layout.card import Gpu
from .reader import Reader
from .session import GatewayError

# nvidia-smi itself waits for the driver forever. At boot the unit has 180 s, of which 60 may go to waiting for the driver: a reset that
# is given up then leaves time for the rollback.
SECONDS = 100.0
_KILLED = 5.0  # to end once killed; a process that hangs in the driver does not end, and is left behind


class ResetRefusedError(GatewayError):
    """Raised when GPUs cannot be reset from here, and were not: the pending mode comes with a reboot."""


def run(argv: List[str]) -> Result:
    """Run nvidia-smi. Raises OSError, of which TimeoutError is one. No pipe: a process that cannot be killed would hold its end open."""
    import subprocess  # nearly every run resets nothing and need not wait for these
    import tempfile

    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait(SECONDS)
        except BaseException as error:  # also a signal: a GPU must not be reset while it is put back
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILLED)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(
                    f"{argv[0]} has not ended within {SECONDS:g} s and was given up; see the kernel log for what the driver does"
                ) from None
            raise
        output.seek(0)
        return Result(code, output.read().decode("utf-8", "replace"), "")


class Resets:
    """Reset GPUs; called with those to reset."""

    def __init__(self, gateway: Reader, run: Run, files: HostFiles) -> None:
        self._gateway = gateway
        self._run = run
        self._files = files

    def __call__(self, gpus: Sequence[Gpu]) -> None:
        """Reset GPUs together. Raises ResetRefusedError, with nvidia-smi's reason, and GatewayError where nobody knows what was done."""
        addresses = ",".join(gpu.address for gpu in self._with_peers(gpus))
        try:
            with self._gateway.away():
                code, *output = self._run(["nvidia-smi", "--gpu-reset", "-i", addresses])
        except FileNotFoundError as error:
            raise ResetRefusedError(f"Resetting {addresses}", error) from error
        except OSError as error:  # it hangs
            raise GatewayError(f"Resetting {addresses}", error) from error
        if code:
            why = "".join(output).strip() or f"nvidia-smi exits with {code}"
            raise ResetRefusedError(f"Resetting {addresses}", RuntimeError(why))

    def _with_peers(self, gpus: Sequence[Gpu]) -> List[Gpu]:
        """Add the GPUs that must be reset too: on an NVSwitch system of the Ampere generation all of the fabric, or none.

        Later generations change the mode without a reset.
        """
        chosen = {gpu.index for gpu in gpus}
        if not self._has_nvswitch():
            return list(gpus)
        peers = [gpu for gpu in self._gateway.gpus() if gpu.device in {other.device for other in gpus}]
        for peer in peers:
            busy = self._gateway.processes(peer)
            if peer.index not in chosen and (peer.instances or busy):
                raise ResetRefusedError(
                    f"Resetting GPU {', '.join(str(number) for number in sorted(chosen))}",
                    RuntimeError(
                        f"GPU {peer.index} is on the same NVSwitches, must be reset with it, and "
                        f"{'holds MIG instances' if peer.instances else f'runs pid {busy[0].pid}'}"
                    ),
                )
        return peers

    def _has_nvswitch(self) -> bool:
        # An NVSwitch is a PCI device of NVIDIA with class 0x0680, "other bridge".
        base = "/sys/bus/pci/devices"
        return any(
            self._files.word(f"{base}/{name}/vendor") == "0x10de"
            and (self._files.word(f"{base}/{name}/class") or "").startswith("0x0680")
            for name in self._files.names(base)
        )
