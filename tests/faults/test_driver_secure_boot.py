"""Secure Boot on, and no signed module: stop, or ask the firmware to enrol a key and install after that.

The firmware is a stand-in: a folder in the place of the EFI variables, which the test changes as MokManager does at the console. mokutil is
Debian's own, behind a script that shows it this folder and writes down how it was called.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from .drivers import NO_NOUVEAU, Drivers, machine

HOST, VARIABLES, CALLS = "ws13", "/srv/lab-firmware", "/var/log/lab-mokutil"
pytestmark = [pytest.mark.host(name=HOST), pytest.mark.deep]
MOKUTIL = f"""#!/bin/sh
# Stand-in of the Forja lab: the real mokutil, on a firmware that is a folder.
echo "$*" >> {CALLS}
EFIVARFS_PATH={VARIABLES}/ exec /usr/bin/mokutil "$@"
"""
MOK = "605dab50-e046-4300-abb6-3dd810dd8b23"
KEY = "/var/lib/dkms/mok"
PASSWORD = "a-word-for-the-console"
WISH: dict[str, Any] = {"source": "nvidia", "version": "595.58.03"}
STAGE: dict[str, Any] = {**WISH, "secure_boot": "stage_mok", "mok_password": PASSWORD}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with machine([HOST], "a100-pcie-pair", tmp_path_factory.mktemp("inventory")) as found:
        found.make_kernel()
        found.on(f"cat > /usr/local/bin/mokutil <<'END'\n{MOKUTIL}END\nchmod +x /usr/local/bin/mokutil")
        found.on(f"mkdir -p {VARIABLES}; touch {CALLS}")
        # Attributes of the variable, then its value: on.
        found.on(f"printf '\\006\\000\\000\\000\\001' > {VARIABLES}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
        found.undo.append((HOST, f"rm -rf {VARIABLES} {CALLS} /usr/local/bin/mokutil {KEY}.key {KEY}.pub"))
        yield found


def test_stops_and_says_what_to_do(host: Drivers) -> None:
    told = host.refuses(**WISH)
    assert "Secure Boot is on" in told
    assert "switch Secure Boot off in the firmware; or set nvidia_driver_secure_boot: stage_mok" in told
    assert "`Enroll MOK`" in told


def test_wants_a_password(host: Drivers) -> None:
    assert "Set nvidia_driver_mok_password." in host.refuses(**WISH, secure_boot="stage_mok")


def test_stages_the_key_and_installs_once_it_is_enrolled(host: Drivers) -> None:
    assert host.run(check=True, **STAGE)[HOST] > 0
    assert host.on(f"ls {KEY}.pub {VARIABLES}/Mok*", check=False) == "", "the check changed the host"
    output = host.passes(host.start_role(**STAGE))
    assert PASSWORD not in output
    assert PASSWORD not in host.on(f"cat {CALLS}"), "every user of the host could read it"
    assert "Reboot the host and at its console choose `Enroll MOK`" in " ".join(output.split())
    assert "not yet: a key waits to be enrolled at the console" in output
    assert host.on(f"stat -c '%a %U' {KEY}.key") == "600 root"
    assert "already in the enrollment request" in host.on(f"mokutil --test-key {KEY}.pub 2>&1", check=False)
    # Nothing of the driver is there yet: nouveau serves until the key is trusted.
    assert host.on("dpkg-query -W 'nvidia-driver-cuda' 2>/dev/null | grep -v '\\s$'", check=False) == ""
    assert host.on(NO_NOUVEAU, check=False) == ""
    assert host.run(**STAGE) == {HOST: 0}
    # At the console: the key moves from what is asked for to what is trusted.
    host.on(f"cd {VARIABLES} && mv MokNew-{MOK} MokListRT-{MOK} && rm MokAuth-{MOK}")
    assert host.run(**STAGE)[HOST] > 0
    assert host.on("dpkg-query -W -f '${Version}' nvidia-driver-cuda") == "595.58.03-1"
    assert host.on(NO_NOUVEAU) != ""
