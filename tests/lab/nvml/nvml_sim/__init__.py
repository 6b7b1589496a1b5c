# SPDX-License-Identifier: Apache-2.0
"""The NVML simulator's other half: makes the state that the library works on, and does what NVML itself cannot."""
