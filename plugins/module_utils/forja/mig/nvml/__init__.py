# SPDX-License-Identifier: Apache-2.0
"""MIG through NVML: session, reader, gateway, reset."""
