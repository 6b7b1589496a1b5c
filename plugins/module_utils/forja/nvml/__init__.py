# SPDX-License-Identifier: Apache-2.0
"""NVML from Python: access to pynvml, and its installation."""
