"""What the documentation points at is there, and the runs that it shows are runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from selfalign_api.load import load_run
from selfalign_api.rules import check_rules

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)|<img[^>]*\bsrc=\"([^\"]+)\"")


def prose(text: str) -> str:
    """A page without its code blocks and code spans, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page; of equal headings the later ones are numbered."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(name if not seen[name] else f"{name}-{seen[name]}")
        seen[name] += 1
    return found


def links(page: Path) -> Iterator[str]:
    for found in LINK.finditer(prose(page.read_text(encoding="utf-8"))):
        target = next(group for group in found.groups() if group)
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


def broken(page: Path, root: Path = ROOT) -> Iterator[str]:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        there = target.exists() and target.is_relative_to(root)
        if not there or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            yield link


def documents() -> Iterator[tuple[str, str]]:
    """Every YAML document of the pages that is a run, with the page and its number."""
    for page in PAGES:
        blocks = [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language == "yaml"]
        for number, text in enumerate(
            part for block in blocks for part in re.split(r"^---$", block, flags=re.MULTILINE)
        ):
            if re.search(r"^kind: SelfAlignmentRun$", text, re.MULTILINE):
                yield f"{page.relative_to(ROOT)}-{number}", text


RUNS = dict(documents())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_resolves(page: Path) -> None:
    assert list(broken(page)) == []


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_run_that_is_shown_is_one(run: str) -> None:
    check_rules(load_run(run))


def test_runs_are_shown() -> None:
    assert {name.partition("-")[0].removesuffix(".md") for name in RUNS} >= {"README"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_yaml_block_of_a_page_is_yaml(page: Path) -> None:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "yaml":
            list(yaml.safe_load_all(text))


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three\n## Again\n## Again\n[a](#one-two-three) [b](#again-1) [c](#again-2) [d](no.md) [e](/etc)"
    )
    assert list(broken(page, tmp_path)) == ["#again-2", "no.md", "/etc"]
