# SPDX-License-Identifier: Apache-2.0
"""Docker Engine: daemon.json and the engine."""
