# SPDX-License-Identifier: Apache-2.0
"""MIG: read the layout of the GPUs, plan the wanted one, apply it and undo what fails. Runs without Ansible as `python3 -m forja.mig`."""
