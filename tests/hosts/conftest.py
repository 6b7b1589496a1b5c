"""Independent witnesses of a provisioned host: they ask the host itself, not Ansible.

Run them by `make verify INVENTORY=...` against any inventory, or through molecule. A test module says by
`pytestmark = pytest.mark.persona("workstation", ...)` to which inventory groups it belongs; on other hosts it is skipped.
A test marked `journal("docker.service")` prints that unit's last lines when it fails.
"""

from collections.abc import Generator
from typing import Any

import pytest


@pytest.fixture
def variables(host: Any) -> dict[str, Any]:
    """What the inventory says about the host."""
    return dict(host.ansible.get_variables())


@pytest.fixture(autouse=True)
def _only_its_personas(request: pytest.FixtureRequest, variables: dict[str, Any]) -> None:
    marker = request.node.get_closest_marker("persona")
    if marker and not set(marker.args) & set(variables["group_names"]):
        pytest.skip(f"for hosts of {', '.join(marker.args)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker = item.get_closest_marker("journal")
    if report.failed and marker and "host" in item.funcargs:
        host: Any = item.funcargs["host"]
        journal = host.run("journalctl --unit=%s --lines=30 --no-pager", marker.args[0])
        report.sections.append((f"journal of {marker.args[0]}", journal.stdout))
    return report
