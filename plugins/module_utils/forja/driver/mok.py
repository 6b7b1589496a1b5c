# SPDX-License-Identifier: Apache-2.0
"""The key that DKMS signs modules with, and whether the firmware trusts it (a machine owner key, MOK)."""

from typing import List, NamedTuple, Tuple

from ..host.errors import ForjaError
from ..host.files import HostFiles
from ..host.run import Feed, Run

UBUNTU, OTHERS = "/var/lib/shim-signed/mok/MOK.der", "/var/lib/dkms/mok.pub"
MOKUTIL = "/usr/bin/mokutil"
# Ubuntu has a tool for it; Debian's DKMS has one from version 13 on only.
MAKE = {
    UBUNTU: ["update-secureboot-policy", "--new-key"],
    OTHERS: ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "36500", "-subj", "/CN=DKMS module signing key",
             "-keyout", "/var/lib/dkms/mok.key", "-outform", "DER", "-out", OTHERS],
}


class State(NamedTuple):
    exists: bool
    trust: str  # missing, staged (the firmware asks at the next boot), or enrolled


def path(distribution: str) -> str:
    return UBUNTU if distribution == "Ubuntu" else OTHERS


def trust(run: Run, files: HostFiles, key: str) -> str:
    """Return missing, staged or enrolled."""
    if not files.exists(key) or not files.exists(MOKUTIL):
        return "missing"
    _, out, err = run([MOKUTIL.rpartition("/")[2], "--test-key", key])
    output = (out + err).lower()
    if "already enrolled" in output:
        return "enrolled"
    return "staged" if "enrollment request" in output else "missing"


def find(run: Run, files: HostFiles) -> Tuple[str, str]:
    """Return the trust in the key of this host, and its path; an empty path where there is none."""
    key = next((key for key in (UBUNTU, OTHERS) if files.exists(key) and files.exists(MOKUTIL)), "")
    return (trust(run, files, key) if key else "missing"), key


def gather(run: Run, files: HostFiles, key: str) -> State:
    return State(files.exists(key), trust(run, files, key))


def plan(state: State, key: str) -> List[str]:
    steps = [] if state.exists else ["make the key " + key]
    return steps + ["ask the firmware to enrol it at the next boot"] * (state.trust == "missing")


def apply(run: Run, feed: Feed, state: State, key: str, password: str) -> None:
    results = [] if state.exists else [run(MAKE[key])]
    if all(result.rc == 0 for result in results):
        # mokutil asks twice. On its command line every user of the host could read the password.
        results.append(feed(["mokutil", "--import", key], f"{password}\n{password}\n"))
    failed = [result for result in results if result.rc != 0]
    if failed:
        raise ForjaError(f"The key {key} could not be {'made' if len(results) == 1 and not state.exists else 'staged'}: "
                         f"{(failed[0].err or failed[0].out).strip()}")
