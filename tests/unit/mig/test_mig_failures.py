# SPDX-License-Identifier: Apache-2.0
"""The MIG code against the NVML simulator: what is left when it fails or is killed, and what the next run makes of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.forja.mig.apply import ChangeError
from plugins.module_utils.forja.mig.journal import Journal, JournalError, boot_id
from plugins.module_utils.forja.mig.nvml.session import GatewayError
from plugins.module_utils.forja.mig.plan import PlanError
from tests.unit.mig.host import (
    A100,
    BALANCED,
    H100,
    H_SEVEN,
    IN_USE,
    INSUFFICIENT,
    OFF,
    SEVEN,
    UNKNOWN,
    Boot,
    Host,
    dies,
    drawn,
    entry,
    fork,
    wanted,
)

CHANGES = {
    "enable": (A100, OFF, SEVEN),
    "enable, no reset": (H100, OFF, H_SEVEN),
    "rearrange": (A100, SEVEN, BALANCED),
    "share": (A100, BALANCED, wanted(entry("all", {"1c.3g.20gb": 2, "2g.10gb": 2}))),
    "disable": (A100, BALANCED, OFF),
}
FAULTS = {
    "in use": ("code", IN_USE, False),
    "done, and said to have failed": ("code", UNKNOWN, True),
    "insufficient resources": ("code", INSUFFICIENT, False),
}


SHORT = {"enabled": True, "pending": True, "instances": [[1, 2]]}
NOTE_CUT_SHORT = json.dumps({"version": 3, "boot_id": "HERE", "gpus": {"GPU-1": {"found": SHORT, "targets": []}}})


def ready(boot: Boot, change: str, gpus: int = 2) -> tuple[Host, Any, list[Any], list[Any], int]:
    """The host before the change, what is wanted, the states before and after it, and how many calls it takes."""
    model, source, target = CHANGES[change]
    host = boot({**model, "count": gpus})
    host.apply(source)
    before = host.state()
    host.sim.calls(reset=True)
    host.apply(target)
    calls = int(host.sim.calls(reset=True)["total"])
    after = host.state()
    host.apply(source)
    assert host.state() == before
    return host, target, before, after, calls


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_failure_at_any_call_ends_in_the_old_layout_or_the_new(boot: Boot, change: str, fault: str) -> None:
    host, target, before, after, calls = ready(boot, change)
    action, code, late = FAULTS[fault]
    failures = 0
    for number in range(1, calls + 1):
        host.sim.fault("any", number, action, code, after=late)
        try:
            host.apply(target)
        except GatewayError:
            failures += 1
        except ChangeError as error:
            failures += error.restored
        host.sim.clear_faults()
        host.machine.enter()
        assert host.state() in (before, after), number
        assert not Path(host.folder, "journal.json").exists(), number
        if host.state() != before:
            host.apply(CHANGES[change][1])
            assert host.state() == before
    assert failures > calls // 2


@pytest.mark.parametrize("late", [False, True], ids=["before the call", "after its effect"])
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_kill_at_any_call_the_next_run_finishes(boot: Boot, change: str, late: bool) -> None:
    host, target, before, after, calls = ready(boot, change, gpus=1)
    for number in range(1, calls + 1):
        # After a call that changes nothing is before the next call.
        host.sim.fault("changing" if late else "any", number, "kill", after=late)
        if not dies(lambda: host.apply(target)):
            assert late, number
            assert number > 4
            break
        host.sim.clear_faults()
        host.apply(target)
        assert host.state() == after, number
        assert not Path(host.folder, "journal.json").exists()
        host.apply(CHANGES[change][1])
        assert host.state() == before


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_kill_at_any_call_a_run_that_fails_puts_back(boot: Boot, change: str) -> None:
    """The next run fails too: what it puts back is what the killed one found."""
    host, target, before, after, calls = ready(boot, change)
    for number in range(1, calls + 1, 5):
        host.sim.fault("any", number, "kill")
        assert dies(lambda: host.apply(target)), number
        host.sim.clear_faults()
        host.sim.fault("changing", 1, "code", UNKNOWN)
        with contextlib.suppress(ChangeError):
            host.apply(target)
        host.sim.clear_faults()
        assert host.state() in (before, after), number
        assert not Path(host.folder, "journal.json").exists(), number
        host.apply(CHANGES[change][1])
        assert host.state() == before


def test_what_a_killed_run_left_on_a_gpu_that_nobody_asks_for_now_is_put_back(boot: Boot) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange")
    host.sim.fault("changing", 8, "kill")
    assert dies(lambda: host.apply(target))
    host.sim.clear_faults()
    assert host.state() != before
    only_second = wanted(entry([1], {"7g.40gb": 1}))
    planned = host.plan(only_second)
    assert planned.data == host.apply(only_second).data
    assert host.state()[0] == before[0]
    assert host.sizes(1) == [8]


def only(target: Any, gpu: int) -> Any:
    """The same for one GPU."""
    return wanted(*[{**one, "devices": [gpu]} for one in target["mig-configs"]["wanted"]])


@pytest.mark.parametrize("late", [False, True], ids=["before the call", "after its effect"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_killed_run_left_is_known_for_what_it_is(boot: Boot, change: str, late: bool) -> None:
    host, target, before, after, calls = ready(boot, change)
    for number in range(1, calls + 1):
        host.sim.fault("changing", number, "kill", after=late)
        if not dies(lambda: host.apply(target)):
            assert number > 6
            break
        host.sim.clear_faults()
        outcome = host.apply(only(target, 1))
        assert all("what the run had found is put back" in warning for warning in outcome.warnings), number
        assert host.state() == [before[0], after[1]], number
        host.apply(CHANGES[change][1])


def killed_midway(boot: Boot, tmp_path: Path) -> tuple[Host, Host]:
    """A host whose run was killed while GPU 0 was changed from balanced to three small and a large one, and somebody else's hands."""
    host = boot({**A100, "count": 2})
    host.apply(BALANCED)
    host.sim.fault("changing", 3, "kill")  # the middle one is gone, the third small one not yet made
    assert dies(lambda: host.apply(wanted(entry("all", {"1g.5gb": 3, "3g.20gb": 1}))))
    host.sim.clear_faults()
    assert host.sizes(0) == [1, 1, 4]
    return host, Host(host.machine, tmp_path / "hands")


@pytest.mark.parametrize(
    "by_hand",
    [{"7g.40gb": 1}, {}, {"1g.5gb": 2}, {"1g.5gb": 2, "1c.3g.20gb": 1}, {"1g.5gb": 1, "1g.5gb+me": 1, "3g.20gb": 1}, None],
    ids=["another layout", "cleared", "one that was to stay is gone", "its compute instance is another", "a profile beside", "no MIG"],
)
def test_what_somebody_made_of_a_gpu_after_a_kill_is_theirs(boot: Boot, tmp_path: Path, by_hand: Any) -> None:
    host, hands = killed_midway(boot, tmp_path)
    hands.apply(wanted({"devices": [0], "mig-enabled": False} if by_hand is None else entry([0], by_hand)))
    theirs = host.state()[0]
    only_second = wanted(entry([1], {"7g.40gb": 1}))
    assert {step["gpu"] for step in host.plan(only_second).data} == {1}
    (warning,) = host.apply(only_second).warnings
    assert re.match(r"GPU 0 \(0000:07:00.0\): .*somebody has changed it since: .* stays there", warning)
    assert warning.endswith("The run had found 2 x 1g.5gb, 1 x 2g.10gb, 1 x 3g.20gb")
    assert host.state()[0] == theirs
    assert not Path(host.folder, "journal.json").exists()


def test_a_failure_puts_back_what_somebody_made_after_a_kill_and_not_what_was_before(boot: Boot, tmp_path: Path) -> None:
    host, hands = killed_midway(boot, tmp_path)
    hands.apply(wanted(entry([0], {"7g.40gb": 1})))
    theirs = host.state()
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 2, "code", INSUFFICIENT)
    with pytest.raises(ChangeError, match="put back"):
        host.apply(SEVEN)
    assert host.state() == theirs


def test_what_a_second_killed_run_left_is_known_too(boot: Boot, tmp_path: Path) -> None:
    host, _hands = killed_midway(boot, tmp_path)
    host.sim.fault("changing", 8, "kill")
    assert dies(lambda: host.apply(wanted(entry([0], {"1g.5gb": 1, "2g.10gb": 3}))))
    host.sim.clear_faults()
    outcome = host.apply(wanted(entry([1], {"7g.40gb": 1})))
    (warning,) = outcome.warnings
    assert warning.endswith("had begun to change it; what the run had found is put back: 2 x 1g.5gb, 1 x 2g.10gb, 1 x 3g.20gb")
    assert host.sizes(0) == [1, 1, 2, 4]


def test_what_a_killed_run_finished_and_somebody_uses_is_left(boot: Boot, job: int) -> None:
    host = boot({**A100, "count": 2})
    host.apply(SEVEN)
    host.sim.calls(reset=True)
    host.sim.fault("changing", 20, "kill")  # GPU 0 is done by then
    assert dies(lambda: host.apply(BALANCED))
    host.sim.clear_faults()
    assert host.sizes(0) == [1, 1, 2, 4]
    large = next(instance for instance in host.state()[0][1] if instance["size"] == 4)
    host.sim.process_add("0", job, gi=large["id"], ci=0)
    (warning,) = host.apply(only(SEVEN, 1)).warnings
    assert "it is finished, and in use" in warning
    assert (host.sizes(0), host.sizes(1)) == ([1, 1, 2, 4], [1] * 7)


def test_when_putting_back_fails_too_the_note_is_kept_and_the_next_run_puts_it_right(boot: Boot) -> None:
    host, target, before, after, _calls = ready(boot, "rearrange")
    host.sim.fault("nvmlDeviceCreateGpuInstanceWithPlacement", 1, "code", INSUFFICIENT, times=0)
    with pytest.raises(ChangeError, match="failed too.*journal of what was found is kept") as caught:
        host.apply(target)
    assert not caught.value.restored
    assert Path(host.folder, "journal.json").exists()
    host.sim.clear_faults()
    host.apply(target)
    assert host.state() == after
    assert before != after


def test_what_cannot_be_put_back_does_not_hold_up_the_rest(boot: Boot) -> None:
    """Of seven instances that went, those that can be made again are; each refusal is told."""
    host, _target, before, _after, _calls = ready(boot, "rearrange", gpus=1)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    # A call that fails counts for no other fault.
    host.sim.fault(create, 1, "code", INSUFFICIENT)  # the change,
    host.sim.fault(create, 2, "code", INSUFFICIENT)  # the second of seven instances that are put back
    host.sim.fault(create, 2, "code", UNKNOWN)  # and the third,
    host.sim.fault(create, 6, "code", INSUFFICIENT, times=0)  # also when tried again
    with pytest.raises(ChangeError, match="failed too.*slot 1.*Insufficient.*slot 2.*Unknown") as caught:
        host.apply(wanted(entry("all", {"7g.40gb": 1})))
    assert not caught.value.restored
    assert host.sizes() == [1] * 5
    host.sim.clear_faults()
    host.apply(SEVEN)
    assert host.state() == before


@pytest.mark.parametrize("late", [False, True])
def test_what_fails_once_while_it_is_put_back_is_tried_again(boot: Boot, late: bool) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange", gpus=1)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    host.sim.fault(create, 1, "code", INSUFFICIENT)
    host.sim.fault(create, 3, "code", UNKNOWN, after=late)
    with pytest.raises(ChangeError, match="put back") as caught:
        host.apply(target)
    assert caught.value.restored
    assert host.state() == before


def test_a_second_failure_at_any_call_of_putting_back_is_overcome(boot: Boot) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange", gpus=1)
    create = "nvmlDeviceCreateGpuInstanceWithPlacement"
    host.sim.fault(create, 1, "code", INSUFFICIENT)
    host.sim.calls(reset=True)
    with pytest.raises(ChangeError):
        host.apply(target)
    names = [call["call"] for call in host.sim.calls()["log"]]
    first = names.index(create) + 1
    for number in range(1, len(names) - first):  # the last is nvmlShutdown
        host.sim.fault(create, 1, "code", INSUFFICIENT)
        host.sim.fault("any", first + number, "code", UNKNOWN)
        with pytest.raises(ChangeError, match="put back"):
            host.apply(target)
        assert host.state() == before, number
        host.sim.clear_faults()


def test_what_cannot_be_removed_keeps_its_place_and_the_mode(boot: Boot) -> None:
    """Somebody is quick to use what was just made: it stays, and MIG is not switched off below it."""
    host = boot(A100)
    host.sim.fault("nvmlGpuInstanceCreateComputeInstance", 4, "code", INSUFFICIENT)
    host.sim.fault("nvmlComputeInstanceDestroy", 2, "code", IN_USE, times=0)
    host.sim.calls(reset=True)
    with pytest.raises(ChangeError, match="failed too: Removing compute instance") as caught:
        host.apply(BALANCED)
    assert not caught.value.restored
    assert len(host.sizes()) == 2
    assert host.sim.calls()["counts"]["nvmlDeviceSetMigMode"] == 1
    host.sim.clear_faults()
    host.apply(OFF)
    assert host.state() == [({"current": 0, "pending": 0}, [])]


def test_a_note_from_before_a_reboot_counts_no_more(boot: Boot) -> None:
    host, target, _before, after, _calls = ready(boot, "rearrange")
    host.sim.fault("changing", 8, "kill")
    assert dies(lambda: host.apply(target))
    host.sim.clear_faults()
    note = Path(host.folder, "journal.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "boot_id": "another"}))
    with Journal(host.folder).reading() as journal:
        assert journal.entries() == {}
    host.apply(target)
    assert host.state() == after
    assert not note.exists()


@pytest.mark.parametrize("text", ["", "{", '{"version": 7}', "[]", '{"version": 3, "boot_id": "HERE", "gpus": []}', NOTE_CUT_SHORT])
def test_a_note_that_cannot_be_understood_stops_the_run(boot: Boot, text: str) -> None:
    host = boot(A100)
    Path(host.folder).mkdir()
    Path(host.folder, "journal.json").write_text(text.replace("HERE", boot_id()))
    with pytest.raises(JournalError, match="is not valid.*remove the file"):
        host.apply(SEVEN)
    assert host.changes() == 0


def test_a_note_that_is_no_file_stops_the_run(boot: Boot) -> None:
    host = boot(A100)
    Path(host.folder, "journal.json").mkdir(parents=True)
    with pytest.raises(JournalError, match="journal.json cannot be read .Is a directory"):
        host.apply(SEVEN)


@pytest.mark.parametrize(("call", "message"), [("fsync", "journal.json cannot be written .No space"), ("pwrite", None)])
def test_a_full_disk(boot: Boot, monkeypatch: pytest.MonkeyPatch, call: str, message: str | None) -> None:
    """Without a note nothing is changed; without our pid in the lock only others' messages are poorer."""
    host = boot(A100)

    def full(*_arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(JournalError, match=message) if message else contextlib.nullcontext():
        disk.setattr(os, call, full)
        assert host.apply(SEVEN).changed
    assert (host.changes() == 0) == bool(message)


def test_an_interrupt_puts_back(boot: Boot) -> None:
    host, target, before, _after, _calls = ready(boot, "rearrange")
    host.sim.fault("changing", 9, "delay", 400)

    def interrupted() -> None:
        try:
            host.apply(target)
        except KeyboardInterrupt:
            os._exit(7)

    child = fork(interrupted)
    time.sleep(0.2)
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert host.state() == before


def test_the_picture_of_what_is_put_back_after_a_kill(boot: Boot, tmp_path: Path) -> None:
    host = boot({**A100, "count": 2})
    host.apply(BALANCED)
    found, _ = drawn(host, host.plan(OFF))
    host.sim.fault("changing", 3, "kill")
    assert dies(lambda: host.apply(SEVEN))
    host.sim.clear_faults()
    before, after = drawn(host, host.plan(only(BALANCED, 1)))
    assert before != after
    assert after == found[: len(after)]  # GPU 0, the first of two


def test_what_such_a_driver_hides_after_a_kill_is_said(boot: Boot) -> None:
    host = boot({**A100, "count": 2}, profiles_need_mode=True)
    host.apply(wanted(entry([0], {})))
    host.apply(wanted(entry([0], {"1g.5gb": 7})))
    off = {"devices": [0], "mig-enabled": False}
    host.sim.fault("nvmlDeviceSetMigMode", 1, "kill", after=True)
    assert dies(lambda: host.apply(wanted(off)))
    with pytest.raises(PlanError, match="GPU 0 .* only while MIG is enabled"):
        host.apply(wanted({**off, "devices": [1]}))
    host.apply(wanted(off))
    assert not Path(host.folder, "journal.json").exists()
