# SPDX-License-Identifier: Apache-2.0
"""systemd: unit files, drop-ins, the manager."""
