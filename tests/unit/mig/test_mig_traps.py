# SPDX-License-Identifier: Apache-2.0
"""Where mig-parted 0.15 does harm in silence, and what happens here instead. Each was seen there against an NVML stand-in."""

from __future__ import annotations

import os
from typing import Any

import pynvml
import pytest

from plugins.module_utils.forja.mig.apply import BusyError, ChangeError
from plugins.module_utils.forja.mig.config.selection import ConfigError
from plugins.module_utils.forja.mig.plan import PlanError
from tests.unit.mig.host import A100, BALANCED, IN_USE, INSUFFICIENT, SEVEN, T4, Boot, Host, entry, wanted


def refused(host: Host, source: Any, message: str) -> None:
    """Refused with this message, and nothing was touched."""
    before = host.state()
    host.changes()
    with pytest.raises((ConfigError, PlanError), match=message):
        host.apply(source)
    assert host.changes() == 0
    assert host.state() == before


def test_enabling_one_gpu_leaves_its_neighbour_alone(boot: Boot) -> None:
    """There: every GPU that the file names is cleared when the mode of one is wrong."""
    host = boot({**A100, "count": 2})
    host.apply(wanted(entry([1], {"1g.5gb": 7})))
    before = host.uuids(1)
    host.changes()
    host.apply(SEVEN)
    assert host.uuids(1) == before
    assert {call["gpu"] for call in host.sim.calls()["log"] if call["changing"]} == {0}


def test_a_failure_leaves_no_empty_gpu(boot: Boot) -> None:
    """There: the GPU that fails is left empty, those before it are changed, those after it are not."""
    host = boot({**A100, "count": 3})
    host.apply(SEVEN)
    before = host.state()
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 5, "code", INSUFFICIENT)
    with pytest.raises(ChangeError):
        host.apply(BALANCED)
    assert host.state() == before


def test_a_refusal_of_the_driver_is_not_tried_again_and_again(boot: Boot) -> None:
    """There: each permutation of the profiles is tried, 12 times over for four of them."""
    host = boot(A100)
    host.apply(SEVEN)
    host.sim.calls(reset=True)
    host.sim.fault("nvmlComputeInstanceDestroy", 1, "code", IN_USE, times=0)
    with pytest.raises(ChangeError):
        host.apply(BALANCED)
    assert host.sim.calls()["counts"]["nvmlComputeInstanceDestroy"] == 1


def test_a_busy_gpu_is_found_before_anything_is_removed(boot: Boot) -> None:
    """There: the instances before the busy one are gone by then."""
    host = boot(A100)
    host.apply(SEVEN)
    last = max(host.state()[0][1], key=lambda instance: instance["start"])
    host.sim.process_add("0", os.getppid(), gi=last["id"], ci=0)
    host.changes()
    with pytest.raises(BusyError):
        host.apply(wanted(entry("all", {"7g.40gb": 1})))
    assert host.changes() == 0


def test_a_file_for_some_gpus_is_fulfilled_by_those(boot: Boot) -> None:
    """There: assert compares every GPU of the node, so that such a file is never fulfilled (issue 157)."""
    host = boot({**A100, "count": 2})
    source = wanted(entry([0], {"1g.5gb": 7}))
    host.apply(source)
    assert host.is_settled(source)
    assert not host.is_settled(SEVEN)


def test_an_instance_without_compute_instances_is_no_obstacle(boot: Boot) -> None:
    """There: it is not seen, and the first apply fails for want of room."""
    host = boot(A100)
    host.apply(wanted(entry("all", {})))
    pynvml.nvmlInit()
    pynvml.nvmlDeviceCreateGpuInstance(pynvml.nvmlDeviceGetHandleByIndex(0), 0)
    assert host.sizes() == [8]
    assert host.apply(SEVEN).changed
    assert host.sizes() == [1] * 7


def test_a_count_of_zero_means_none(boot: Boot) -> None:
    """There: it never compares equal, and each run makes everything anew."""
    host = boot(A100)
    source = wanted(entry("all", {"1g.5gb": 3, "2g.10gb": 0}))
    assert host.apply(source).changed
    assert not host.apply(source).changed


def test_a_card_without_mig_beside_one_with(boot: Boot) -> None:
    """There: the mode never compares equal, and each run makes everything anew."""
    host = boot(A100, T4)
    assert host.apply(SEVEN).changed
    before = host.state()
    host.changes()
    assert not host.apply(SEVEN).changed
    assert host.changes() == 0
    assert host.state() == before


def test_a_profile_that_the_card_does_not_have(boot: Boot) -> None:
    """There: the GPU is cleared, nothing is made, and the exit code is 0 (issues 18 and 97)."""
    host = boot(A100)
    host.apply(SEVEN)
    refused(host, wanted(entry("all", {"1g.7gb": 1})), "1g.7gb.*1g.5gb")


def test_a_file_for_another_card(boot: Boot) -> None:
    """There: success, with MIG enabled and no instance."""
    host = boot(A100)
    refused(host, wanted(entry("all", {"7g.80gb": 1})), "A100.*has no profile 7g.80gb.*7g.40gb")


def test_a_filter_that_matches_nothing(boot: Boot) -> None:
    """There: success, and nothing done."""
    host = boot(A100)
    refused(host, wanted({**entry("all", {"1g.5gb": 7}), "device-filter": ["0x20B310DE"]}), "0x20B010DE")


def test_a_filter_that_cannot_be_read(boot: Boot) -> None:
    """There: accepted, and it never matches."""
    host = boot(A100)
    refused(host, wanted({**entry("all", {"1g.5gb": 7}), "device-filter": "A100"}), "A100")


def test_two_entries_for_one_gpu_do_not_take_turns(boot: Boot) -> None:
    """There: the first is made and taken away again, at each run; the last counts."""
    host = boot(A100)
    source = wanted(entry("all", {"7g.40gb": 1}), entry([0], {"1g.5gb": 7}))
    outcome = host.apply(source)
    assert outcome.warnings
    assert host.sizes() == [1] * 7
    assert not host.apply(source).changed


@pytest.mark.parametrize("label", ["off", "false"])
def test_a_label_that_yaml_takes_for_no(boot: Boot, label: str) -> None:
    """There: `off:` in the file is found as `false` only."""
    host = boot(A100)
    host.apply(SEVEN)
    off, on = "{devices: all, mig-enabled: false}", "{devices: all, mig-enabled: true, mig-devices: {}}"
    host.apply(f"version: v1\nmig-configs:\n  off:\n  - {off}\n  on:\n  - {on}\n", label)
    assert host.state() == [({"current": 0, "pending": 0}, [])]


def test_only_the_gpu_that_needs_it_is_reset(boot: Boot) -> None:
    """There: all GPUs of the node, with whoever uses them."""
    host = boot({**A100, "count": 3})
    host.sim.fault("nvmlDeviceSetMigMode", 2, "activation", 16)
    host.apply(SEVEN, reset=True)
    assert len(host.resets) == 1
    assert "," not in host.resets[0]
    assert [host.sizes(number) for number in range(3)] == [[1] * 7] * 3
