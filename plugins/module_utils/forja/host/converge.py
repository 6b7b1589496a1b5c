# SPDX-License-Identifier: Apache-2.0
"""Gather, plan, apply, and look again: what every module that changes a host does."""

from typing import Callable, Generic, List, Sequence, TypeVar

from .errors import ForjaError

State = TypeVar("State")
Step = TypeVar("Step")


class Outcome(Generic[State, Step]):
    """What `converge` found and did: the state before, the state after (in check mode the one before), the steps."""

    def __init__(self, before: State, after: State, steps: List[Step]) -> None:
        self.before, self.after, self.steps = before, after, steps

    @property
    def changed(self) -> bool:
        return bool(self.steps)


def converge(
    gather: Callable[[], State],
    plan: Callable[[State], Sequence[Step]],
    apply: Callable[[State, List[Step]], None],
    check: bool,
    describe: Callable[[Step], str] = str,
) -> "Outcome[State, Step]":
    """Bring what `gather` reads to where `plan` has no steps left; with `check` only say which steps there are.

    `plan` is pure. Raises ForjaError where every step reports success and some are still to do.
    """
    before = gather()
    steps = list(plan(before))
    if check or not steps:
        return Outcome(before, before, steps)
    apply(before, steps)
    after = gather()
    left = [describe(step) for step in plan(after)]
    if left:
        raise ForjaError(f"Every step reports success, and this is still to do: {'; '.join(left)}.")
    return Outcome(before, after, steps)
