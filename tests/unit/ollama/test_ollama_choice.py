"""Models that fit a card."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils.forja.host.errors import ForjaError
from plugins.module_utils.forja.ollama.choice import (
    CONTEXTS,
    MIB,
    Choice,
    choose,
    parse,
    plan,
    read_amd,
    read_catalogue,
    read_nvidia,
)
from tests.house.tree import REPO

CATALOGUE = read_catalogue(yaml.safe_load((REPO / "roles/ollama/defaults/main.yml").read_text())["ollama_catalogue"])
GIB = 1024


@pytest.mark.parametrize(("memory_mib", "context", "models"), [
    (2 * GIB, 0, []),
    (4 * GIB, 16384, ["llama3.2:1b", "qwen2.5-coder:1.5b", "nomic-embed-text"]),
    (8188, 8192, ["llama3.1:8b", "qwen2.5-coder:7b", "llama3.2:3b", "nomic-embed-text"]),  # an RTX 3070 or 4060
    (12 * GIB, 32768, ["llama3.1:8b", "qwen2.5-coder:7b", "llama3.2:3b", "nomic-embed-text"]),
    (16 * GIB, 16384, ["llama3.1:8b", "deepseek-coder-v2:16b", "llama3.2:3b", "nomic-embed-text"]),
    (24 * GIB, 32768, ["llama3.1:8b", "deepseek-coder-v2:16b", "llama3.2:3b", "nomic-embed-text"]),
    (80 * GIB, 32768, ["llama3.1:70b", "qwen2.5-coder:32b", "llama3.2:3b", "nomic-embed-text"]),
    (192 * GIB, 32768, ["llama3.1:70b", "qwen2.5-coder:32b", "llama3.2:3b", "nomic-embed-text"]),
])
def test_cards(memory_mib: int, context: int, models: list[str]) -> None:
    assert choose(CATALOGUE, memory_mib, 1024) == Choice(memory_mib, 1024, context, models)


@given(st.integers(0, 300 * GIB), st.integers(0, 32 * GIB))
def test_what_is_chosen_fits_and_nothing_larger_would(memory_mib: int, reserve_mib: int) -> None:
    choice = choose(CATALOGUE, memory_mib, reserve_mib)
    room = (memory_mib - reserve_mib) * MIB
    chosen = [entry for entry in CATALOGUE if entry.name in choice.models]
    assert all(entry.needs(choice.context_length) <= room for entry in chosen)
    for purpose in {entry.purpose for entry in CATALOGUE}:
        fitting = [entry for entry in CATALOGUE if entry.purpose == purpose and entry.needs(CONTEXTS[-1]) <= room]
        assert not fitting or max(fitting, key=lambda entry: entry.size).name in choice.models


def test_a_choice_stays_until_card_or_reserve_changes() -> None:
    kept = Choice(8188, 1024, 4096, ["an-older-catalogue:7b"])
    assert parse(kept.render().encode()) == kept
    assert plan(kept, CATALOGUE, 8188, 1024) == kept
    assert plan(kept, CATALOGUE, 8188, 2048).models == ["llama3.2:3b", "qwen2.5-coder:1.5b", "nomic-embed-text"]
    assert plan(kept, CATALOGUE, 24 * GIB, 1024).models[0] == "llama3.1:8b"
    assert plan(None, CATALOGUE, 8188, 1024).models[0] == "llama3.1:8b"


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b'{"models": 1}', b"\xff"])
def test_a_file_that_is_no_choice_is_none(text: bytes | None) -> None:
    assert parse(text) is None


def test_a_catalogue_with_an_entry_that_says_too_little() -> None:
    with pytest.raises(ForjaError, match="wanted are name, purpose, gb"):
        read_catalogue([{"name": "x"}])


def test_memory_of_the_largest_card() -> None:
    assert read_nvidia("8188\n24564\n") == 24564
    assert read_nvidia("[N/A]\nNo devices were found\n") == 0
    assert read_amd(["25753026560\n", "", "x"]) == 24560
