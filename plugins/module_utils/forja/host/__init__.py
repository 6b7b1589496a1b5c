# SPDX-License-Identifier: Apache-2.0
"""The ground that every other package stands on: files, atomic writes, commands, errors."""
