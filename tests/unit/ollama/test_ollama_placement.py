"""Where Ollama put a model."""

from __future__ import annotations

import pytest

from plugins.module_utils.forja.ollama.placement import Placement, find, largest

TAGS = {"models": [{"name": "llama3.2:1b", "size": 1}, {"name": "llama3.1:8b", "size": 5}, {"name": "nomic:latest", "size": 9}]}


@pytest.mark.parametrize(("names", "found"), [
    (["llama3.2:1b", "LLAMA3.1:8b"], "llama3.1:8b"), (["nomic"], "nomic:latest"), (["not-there"], None), ([], None)])
def test_the_largest_model_that_is_there(names: list[str], found: str | None) -> None:
    assert largest(TAGS, names) == found


def test_where_a_model_is() -> None:
    assert find({"models": [{"name": "a:1", "size": 10, "size_vram": 4}]}, "a:1") == Placement("a:1", 10, 4)
    assert find({"models": None}, "a:1") is None
    assert Placement("a:1", 10, 10).problem == ""
    assert "a:1 runs on the CPU" in Placement("a:1", 10, 0).problem
    assert "6 B of the 10 B of a:1 are not in the GPU's memory" in Placement("a:1", 10, 4).problem
