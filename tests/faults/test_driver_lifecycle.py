"""The driver on Debian 12 and 13: check, install, second run, upgrade, downgrade, away again, from two sources.

Debian's packages are the real ones; NVIDIA's repository is the mirror's, whose packages have true names and no content. The hosts
have no kernel of their own, so Debian's module is not built here: `make test-slow` does that.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from .drivers import Drivers, machine

HOSTS = [pytest.param(host, marks=pytest.mark.host(name=host)) for host in ("ws12", "ws13")]
SOURCES: dict[str, dict[str, Any]] = {
    "distribution": {"source": "distribution", "allow_ended": True},
    "nvidia": {"source": "nvidia", "version": "595.58.03"},
}


@pytest.fixture(scope="module", params=HOSTS)
def drivers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with machine([request.param], "h200-vm", tmp_path_factory.mktemp("inventory")) as found:
        yield found


def goes_up_and_down(drivers: Drivers) -> None:
    """To a newer version and to another branch: libraries and what else belongs to the driver go along."""
    for version in ("595.71.05", "580.95.05"):
        assert min(drivers.run(source="nvidia", version=version).values()) > 0
        for package in ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "libnvidia-ml1", "nvidia-modprobe"):
            assert set(drivers.everywhere(f"dpkg-query -W -f '${{Version}}' {package}").values()) == {f"{version}-1"}
    drivers.witness()


@pytest.mark.deep
@pytest.mark.parametrize("source", SOURCES)
def test_comes_stays_and_goes(drivers: Drivers, source: str) -> None:
    wish = SOURCES[source]
    predicted = drivers.run(check=True, **wish)
    assert drivers.run(**wish) == predicted, "the check predicted another number of changes"
    assert min(predicted.values()) > 0
    assert set(drivers.run(**wish).values()) == {0}
    drivers.witness()
    # The other source is refused before anything is changed.
    other = next(name for name in SOURCES if name != source)
    told = drivers.refuses(**SOURCES[other])
    assert "sources are never mixed. Run once with nvidia_driver_state: absent, then again." in told
    if source == "nvidia":
        goes_up_and_down(drivers)
    drivers.run(state="absent")
    assert set(drivers.run(state="absent").values()) == {0}
    if source == "distribution":  # whose packages leave most
        drivers.witness()
