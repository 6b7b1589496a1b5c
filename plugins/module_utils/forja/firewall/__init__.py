# SPDX-License-Identifier: Apache-2.0
"""Firewalls: the table of a fence, and other firewalls that also filter."""
