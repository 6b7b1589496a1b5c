# SPDX-License-Identifier: Apache-2.0
"""What gpu_facts reads of a host."""
