# SPDX-License-Identifier: Apache-2.0
"""Power limits of GPUs."""
