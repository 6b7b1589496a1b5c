# SPDX-License-Identifier: Apache-2.0
"""apt: packages, holds, signed repositories."""
