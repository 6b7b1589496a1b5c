"""Independent witnesses of a provisioned host: they ask the host itself, not Ansible.

`make verify INVENTORY=...` runs them against any inventory. A test module says by `pytestmark = pytest.mark.role("docker")` which role it
looks at, and runs on the hosts that have it: by a group of the role's name, or by a persona that lists the role. With
`state="absent"` it is for hosts from which `<role>_state` removes the role, with `state="any"` for all; otherwise for those that have it.
What only the lab can show is marked `lab`. `variables` are what the inventory, the persona and the role's defaults say, so that a test
passes on every host that is as its inventory says. `journal("docker.service")` prints that unit's last lines when a test fails, and
`remedy("...")` replaces what `make verify` proposes to do, which is to run site.yml again.
"""

from collections.abc import Generator
from typing import Any

import pytest

from tests.hosts.verdict import UNREACHABLE, Verdicts, compare
from tests.hosts.wanted import Wanted, inventory_of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--verdicts", action="store_true", help="one line for each thing that is not as the inventory says")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--verdicts") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Verdicts(config), "verdicts")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str]:
    return [compare(op, left, right)]


def name_of(host: Any) -> str:
    return str(host.backend.get_pytest_id()).partition("://")[2]


def facts_of(host: Any) -> dict[str, Any]:
    """What the host says of itself, as `ansible_facts` has it."""
    found = host.ansible("setup", "gather_subset=!all,min,network")["ansible_facts"]
    return {name.removeprefix("ansible_"): value for name, value in found.items()}


@pytest.fixture(scope="module")
def variables(host: Any, request: pytest.FixtureRequest) -> Wanted:
    """The variables of the host as its roles see them."""
    inventory = inventory_of(request.config.getoption("ansible_inventory") or "inventories/lab", name_of(host))
    return Wanted(inventory, lambda: facts_of(host))


# Why a host cannot be asked, by its name; empty if it can.
REACHED: dict[str, str] = {}


def unreachable(host: Any) -> str:
    name = name_of(host)
    if name not in REACHED:
        try:
            answer = host.run("true")
            REACHED[name] = "" if answer.rc == 0 else answer.stderr.strip() or f"`true` ended with {answer.rc}"
        except RuntimeError as error:
            REACHED[name] = str(error).strip()
    return REACHED[name]


@pytest.fixture(autouse=True)
def _only_its_hosts(request: pytest.FixtureRequest, variables: Wanted) -> None:
    marker = request.node.get_closest_marker("role")
    if marker is None:
        return
    role, state = marker.args[0], marker.kwargs.get("state", "present")
    if role not in variables.roles:
        pytest.skip(f"for hosts with the role {role}")
    if state != "any" and variables.get(f"{role}_state", "present") != state:
        pytest.skip(f"for hosts with {role}_state: {state}")
    if request.node.get_closest_marker("lab") and "lab_address" not in variables:
        pytest.skip("for hosts of the lab")
    if reason := unreachable(request.getfixturevalue("host")):
        pytest.fail(f"{UNREACHABLE}{reason}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        if remedy := item.get_closest_marker("remedy"):
            report.user_properties.append(("remedy", remedy.args[0]))
        journal = item.get_closest_marker("journal")
        if journal and "host" in item.funcargs and not item.config.getoption("--verdicts"):
            host: Any = item.funcargs["host"]
            lines = host.run("journalctl --unit=%s --lines=30 --no-pager", journal.args[0]).stdout
            report.sections.append((f"journal of {journal.args[0]}", lines))
    return report
