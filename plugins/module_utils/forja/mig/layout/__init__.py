# SPDX-License-Identifier: Apache-2.0
"""MIG layouts: what a card offers, the solver, the picture. Pure."""
