# SPDX-License-Identifier: Apache-2.0
"""Programs that hold GPUs: stop them for a change, start them again."""
