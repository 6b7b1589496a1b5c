# SPDX-License-Identifier: Apache-2.0
"""Holds of packages: which marks change, against a made-up dpkg."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.apt.hold import apply, gather, plan
from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.host.run import Result


class Host:
    """dpkg's list as name -> status, and apt-mark on it."""

    def __init__(self, packages: dict[str, str], broken: bool = False) -> None:
        self.packages, self.broken = packages, broken

    def run(self, argv: list[str], **_: object) -> Result:
        if argv[0] == "dpkg-query":
            return Result(0, "".join(f"{name} {status}\n" for name, status in self.packages.items()), "")
        if self.broken:
            return Result(100, "", "E: no")
        for name in argv[2:]:
            self.packages[name] = ("h" if argv[1] == "hold" else "i") + self.packages[name][1:]
        return Result(0, "", "")


HOST = {"nvidia-smi": "ii", "libcuda1": "hi", "nvidia-container-toolkit": "ii", "nvidia-old": "rc", "docker.io": "hi", "nvidia-half": "iU"}


@pytest.mark.parametrize(("patterns", "exclude", "hold", "names"), [
    (["nvidia-*", "libcuda1"], [], True, ["nvidia-container-toolkit", "nvidia-half", "nvidia-smi"]),
    (["nvidia-*", "libcuda1"], ["nvidia-container*"], True, ["nvidia-half", "nvidia-smi"]),
    (["nvidia-*", "libcuda1"], [], False, ["libcuda1"]),
    (["libcuda1"], [], True, []),
    ([], [], False, []),
])
def test_plan(patterns: list[str], exclude: list[str], hold: bool, names: list[str]) -> None:
    assert plan(gather(Host(dict(HOST)).run), patterns, exclude, hold) == names


@given(st.dictionaries(st.sampled_from(list(HOST)), st.sampled_from(["ii", "hi", "iU", "rc", "un"])), st.booleans())
def test_a_second_run_has_nothing_to_do(packages: dict[str, str], hold: bool) -> None:
    host = Host(packages)
    others = {name: status for name, status in packages.items() if not name.startswith("nvidia-")}
    apply(host.run, plan(gather(host.run), ["nvidia-*"], [], hold), hold)
    assert plan(gather(host.run), ["nvidia-*"], [], hold) == []
    assert others.items() <= host.packages.items()


def test_a_failing_apt_mark_is_an_error() -> None:
    with pytest.raises(ForjaError, match="apt-mark failed: E: no"):
        apply(Host({}, broken=True).run, ["x"], True)
