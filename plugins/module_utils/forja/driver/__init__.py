# SPDX-License-Identifier: Apache-2.0
"""The NVIDIA driver: plan, packages, DKMS, report."""
