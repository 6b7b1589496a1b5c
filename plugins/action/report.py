# SPDX-License-Identifier: Apache-2.0
"""Keep what a role says of itself: for the summary after the recap, and for the roles after it.

The task registers its result as `forja_reports`; each call merges into what earlier roles have reported there, so that
`forja_reports.roles.<role>.reboot` tells later roles why a reboot is required.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

LISTS = ("endpoints", "reboot", "problems")


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    _requires_connection = False
    _VALID_ARGS = frozenset(("summary", "version", *LISTS))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not self._task._role:
            raise AnsibleActionFail("report keeps what a role says; there is no role around this task.")
        role = self._task._role.get_name().rpartition(".")[2]
        args = self._task.args
        if not args.get("summary"):
            raise AnsibleActionFail(f"The report of {role} has no summary: one sentence is needed.")
        data = {
            "summary": " ".join(str(args["summary"]).split()),
            "version": str(args.get("version") or ""),
            **{name: [str(item) for item in args.get(name) or []] for name in LISTS},
        }
        earlier = ((task_vars or {}).get("forja_reports") or {}).get("roles") or {}
        result.update(changed=False, roles={**earlier, role: data})
        if not self._play_context.check_mode:
            result["ansible_stats"] = {"data": {"forja": {role: data}}, "per_host": True, "aggregate": True}
        return result
