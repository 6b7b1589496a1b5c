# SPDX-License-Identifier: Apache-2.0
"""The MIG code from end to end, in this process, against the NVML simulator: what it does, and what it refuses to do."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils.forja.mig.change import BusyError, ChangeError
from plugins.module_utils.forja.mig.config import ConfigError
from plugins.module_utils.forja.mig.export import as_yaml, exported
from plugins.module_utils.forja.mig.gateway import Gateway, GatewayError
from plugins.module_utils.forja.mig.journal import Journal, JournalError
from plugins.module_utils.forja.mig.node import Node, Outcome, pictures
from plugins.module_utils.forja.mig.plan import PlanError

from .nvml_machine import Machine

pynvml = pytest.importorskip("pynvml")
