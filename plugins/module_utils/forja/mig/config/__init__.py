# SPDX-License-Identifier: Apache-2.0
"""MIG configuration files and labels."""
