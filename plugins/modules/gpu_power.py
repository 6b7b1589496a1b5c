#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0

DOCUMENTATION = r"""
module: gpu_power
short_description: Limits the power of NVIDIA's GPUs
version_added: "0.1.0"
author: The Forja authors (@forja)
description:
  - Sets power limits now, and persistence mode where it is off, without which a limit is lost when no program uses the card. What each card
    allows is read from it, and a limit beyond that is refused before any is set.
  - The role C(gpu_power) sets them again at each boot.
attributes:
  check_mode:
    description: Predicts exactly.
    support: full
  diff_mode:
    description: Shows the limit of each card before and after.
    support: full
options:
  limits:
    description:
      - Watts by card, named by its UUID or its PCI address, or V(all). Cards without one stay as they are. Indexes are not taken, because
        they change with the cards of a host.
    type: dict
    default: {}
  state:
    description: V(absent) gives every card the limit that it came with.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let every card take 250 W, and one of them less
  forja.gpu.gpu_power:
    limits:
      all: 250
      "0000:0a:00.0": 200
"""

RETURN = r"""
steps:
  description: What was set, or would be in check mode.
  returned: success
  type: list
  elements: str
limits:
  description: The watts of each card that has a limit, by UUID.
  returned: success
  type: dict
commands:
  description: The commands that set these limits after a boot.
  returned: success
  type: list
  elements: str
cards:
  description: How many cards answered; 0 where no driver runs yet.
  returned: success
  type: int
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.forja.host.converge import converge
from ..module_utils.forja.host.errors import ForjaError
from ..module_utils.forja.host.run import module_run
from ..module_utils.forja.power.limits import Card, Step, apply, defaults, gather, plan, wanted


def argument_spec() -> Dict[str, Any]:
    return {
        "limits": {"type": "dict", "default": {}},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def read(given: Dict[str, Any]) -> Dict[str, float]:
    try:
        return {str(name): float(watts) for name, watts in given.items()}
    except (TypeError, ValueError):
        raise ForjaError(f"limits is {given}; expected watts by card, such as {{all: 250}}.") from None


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    run = module_run(module)
    try:
        given = read(module.params["limits"])

        def limits(cards: List[Card]) -> Dict[str, float]:
            return given if module.params["state"] == "present" else defaults(cards)

        outcome = converge(lambda: gather(run), lambda cards: plan(cards, limits(cards)), lambda _, steps: apply(run, steps),
                           module.check_mode, Step.describe)
        asked = wanted(outcome.before, limits(outcome.before)) if outcome.before else []
    except (ForjaError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    before = "".join(f"{card.address} {card.limit} W\n" for card, _ in asked)
    after = "".join(f"{card.address} {watts} W\n" for card, watts in asked)
    module.exit_json(
        changed=outcome.changed, steps=[step.describe() for step in outcome.steps], cards=len(outcome.before),
        limits={card.uuid: watts for card, watts in asked},
        commands=[" ".join(step.argv) for card, watts in asked for step in (Step(card, None), Step(card, watts))],
        diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
