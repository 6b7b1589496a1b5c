# SPDX-License-Identifier: Apache-2.0
"""GPUs in containers: what the NVIDIA Container Toolkit tells container engines."""
