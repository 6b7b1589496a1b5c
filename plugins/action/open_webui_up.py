# SPDX-License-Identifier: Apache-2.0
"""Calls the module of the same name in slices of time and prints between them how long Open WebUI has been starting, and its last line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_SPEC = importlib.util.spec_from_file_location("forja_progress", Path(__file__).parents[1] / "plugin_utils" / "progress.py")
_PROGRESS: Any = importlib.util.module_from_spec(_SPEC)  # type: ignore[arg-type]
_SPEC.loader.exec_module(_PROGRESS)  # type: ignore[union-attr]


class ActionModule(_PROGRESS.ProgressAction):  # type: ignore[misc]  # loaded by path
    """Everything is the base's."""
