# SPDX-License-Identifier: Apache-2.0
"""Ollama: model names and the API."""
