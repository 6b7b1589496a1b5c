# SPDX-License-Identifier: Apache-2.0
"""Calls the module of the same name in slices of time and prints between them how far the pull has come.

Ollama keeps what it has downloaded when a pull is cut off, so a long pull can be many short ones.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_SPEC = importlib.util.spec_from_file_location("forja_progress", Path(__file__).parents[1] / "plugin_utils" / "progress.py")
_PROGRESS: Any = importlib.util.module_from_spec(_SPEC)  # type: ignore[arg-type]
_SPEC.loader.exec_module(_PROGRESS)  # type: ignore[union-attr]


class ActionModule(_PROGRESS.ProgressAction):  # type: ignore[misc]  # loaded by path
    def merge(self, first: dict[str, Any], last: dict[str, Any], gained: int) -> dict[str, Any]:
        """Return the result of a pull in several slices: from what was there before the first to what is there after the last."""
        if "model" not in last:  # it failed, or the host is gone
            return last
        digests = [(model or {}).get("digest") for model in (first["before"], last["model"])]
        return {**last, "changed": digests[0] != digests[1], "before": first["before"], "steps": first["steps"],
                "bytes_pulled": gained + last["bytes_pulled"], "diff": {**last["diff"], "before": first["diff"]["before"]}}
