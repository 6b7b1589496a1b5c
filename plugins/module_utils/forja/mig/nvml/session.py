# SPDX-License-Identifier: Apache-2.0
"""Hold a session with NVML through an object with pynvml's functions: it counts calls, and keeps handles of GPUs."""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar

from ...host.errors import ForjaError

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, FUNCTION_NOT_FOUND, GPU_IS_LOST, IN_USE = 2, 3, 4, 6, 13, 15, 19
_ENDLESS = 64  # no driver has as many profile indexes; a library that never answers INVALID_ARGUMENT must not loop forever

_Session = TypeVar("_Session", bound="Session")


class GatewayError(ForjaError):
    """Raised when an NVML call fails. `code` is NVML's, None when the binding itself failed."""

    def __init__(self, what: str, error: Exception) -> None:
        self.code: Optional[int] = getattr(error, "value", None)
        super().__init__(f"{what}: {error}{'; run as root' if self.code == NO_PERMISSION else ''}")


class StoppedError(BaseException):
    """Raised at most once, at any moment, by a signal handler. No Exception, so that it is not taken for an error of NVML."""


class Session:
    """A session from `with` to its end."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.calls = 0
        self._devices: Dict[int, Any] = {}
        self._addresses: Dict[int, Any] = {}  # as NVML writes them, by the index at first sight
        self._gpu_handles: Dict[Tuple[int, int], Any] = {}
        self._compute_lists: Dict[Tuple[int, int], List[Any]] = {}  # in the order of Instance.compute as Reader.gpu gives it
        self._compute_handles: Dict[Tuple[int, int, int], Any] = {}

    def __enter__(self: _Session) -> _Session:
        self._call("NVML does not start", "nvmlInit")
        return self

    def __exit__(self, *_exception: Any) -> None:
        # The end of the session changes nothing of what was done.
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Close the session for a while: a GPU that a process has open, even this one, cannot be reset. All handles are stale then."""
        self.__exit__()
        for handles in (self._devices, self._gpu_handles, self._compute_lists, self._compute_handles):
            handles.clear()
        try:
            yield
        finally:
            self._call("NVML does not start again", "nvmlInit")

    def forget(self, index: int) -> None:
        """Drop the handles of a GPU whose mode changed: they are stale."""
        self._devices.pop(index, None)

    def _device(self, index: int) -> Any:
        if index not in self._devices:
            what, address = f"GPU {index}", self._addresses.get(index)
            # A GPU lost in a reset makes the indexes of others smaller: a GPU seen before is found by its address.
            self._devices[index] = (
                self._call(what, "nvmlDeviceGetHandleByIndex", index)
                if address is None
                else self._call(what, "nvmlDeviceGetHandleByPciBusId", address)
            )
        return self._devices[index]

    def _call(self, what: str, function: str, *arguments: Any) -> Any:
        self.calls += 1
        try:
            return getattr(self._nvml, function)(*arguments)
        except Exception as error:  # pynvml has a class for each code; a broken binding raises AttributeError
            raise GatewayError(what, error) from error

    def _optional(self, what: str, quiet: Tuple[int, ...], function: str, *arguments: Any) -> Any:
        """Call, and return None for an error whose code is one of `quiet`."""
        try:
            return self._call(what, function, *arguments)
        except GatewayError as error:
            if error.code in quiet:
                return None
            raise

    def _walk(self, ask: Callable[[int], Any]) -> List[Tuple[int, Any]]:
        """Return index and answer for all indexes that are supported."""
        found = []
        for index in range(_ENDLESS):
            try:
                found.append((index, ask(index)))
            except GatewayError as error:
                if error.code == INVALID_ARGUMENT:
                    break
                if error.code != NOT_SUPPORTED:
                    raise
        return found
