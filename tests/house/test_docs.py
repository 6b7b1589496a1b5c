# SPDX-License-Identifier: Apache-2.0
"""Rules for pages. Each test fails with a sentence that says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.tree import REPO, files
from tests.tools import make_docs

LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """Leave out what stands in code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in LINK.findall(prose(page.read_text())):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if re.match(r"[a-z]+:", link):
            continue
        known = anchors(target.read_text()) if anchor and target.suffix == ".md" and target.exists() else {anchor}
        if not target.exists() or anchor not in known:
            dead.append(link)
    return dead


def test_generated_pages_are_up_to_date() -> None:
    pages = make_docs.pages()
    outdated = [str(path.relative_to(REPO)) for path, text in pages.items() if not path.exists() or path.read_text() != text]
    strange = [str(path.relative_to(REPO)) for path in (REPO / "docs/reference").rglob("*.md") if path not in pages]
    assert not outdated + strange, f"{outdated + strange}: not as specs and modules say; run `make docs` and commit what it writes."


def test_every_link_between_pages_leads_somewhere() -> None:
    dead = {str(path.relative_to(REPO)): dead_links(path) for path in files() if path.suffix == ".md"}
    dead = {page: links for page, links in dead.items() if links}
    assert not dead, f"These links lead nowhere: {dead}"


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b\n[x](there.md) [y](#a-b) [z](#gone) [web](https://example.org) `[code](code.md)`\n")
    assert dead_links(page) == ["there.md", "#gone"]


@pytest.mark.parametrize("page", sorted(path.stem for path in (REPO / "docs/topics").glob("*.md")))
def test_page_of_a_topic_is_in_the_index(page: str) -> None:
    assert f"(topics/{page}.md)" in (REPO / "docs/index.md").read_text(), f"docs/index.md: link topics/{page}.md."


@pytest.mark.parametrize("page", sorted(path.stem for path in (REPO / "docs/personas").glob("*.md")))
def test_page_of_a_persona_is_in_the_index(page: str) -> None:
    assert f"(personas/{page}.md)" in (REPO / "docs/index.md").read_text(), f"docs/index.md: link personas/{page}.md."
