"""Report and comparison in a real browser: nothing fails, nothing is loaded, both colour schemes, on a phone and on paper."""

import os
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from browser import Page, chromium
from played_shapes import SHAPES, known, played
from report_run import Chances, make_run
from rich.console import Console

from selfalign_jobs.compare import compare
from selfalign_jobs.compare.beside import LINES
from selfalign_jobs.places.store import Folder
from selfalign_jobs.report import render_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "THE REPORT WAS NOT OPENED IN A BROWSER: there is no chromium here; apt-get install chromium"
if CHROMIUM is None:
    if os.environ.get("CI") == "true":
        pytest.fail(MISSING, pytrace=False)
    pytest.skip(MISSING, allow_module_level=True)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert CHROMIUM is not None
    with chromium(CHROMIUM) as found:
        yield found


@pytest.fixture(scope="module", params=["sao", *SHAPES, "comparison"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs: SAO's of two iterations whose model writes scripts and images into its prompts, of other shapes, and ten
    runs side by side, more than there are kinds of lines."""
    folder = tmp_path_factory.mktemp("report")
    target = folder / "report.html"
    if request.param == "sao":
        run = make_run(folder / "run", Chances(personas=150, held_out=60, iterations=2, hostile=True))
        target.write_text(render_report(run.folder, run.plan), encoding="utf-8")
        return target
    if request.param == "comparison":
        chances = [Chances(personas=40, held_out=60, iterations=k, hostile=True) for k in (1, 2)]
        runs = [make_run(folder / str(k), chance, seed=k).folder for k, chance in enumerate(chances)]
        compare(runs * 5, Folder.open(folder.as_uri()), Console(file=StringIO()))
        return folder / "compare.html"
    with known(request.param):
        target.write_text(render_report(*played(folder, request.param)), encoding="utf-8")
    return target


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_opens_without_a_complaint_and_without_a_request(page: Page, report: Path, scheme: str, width: int) -> None:
    page.show(report, width=width, height=900, scheme=scheme)
    assert page.named("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    requested = [seen["request"]["url"] for seen in page.named("Network.requestWillBeSent")]
    assert requested == [report.as_uri()]
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.scripts.length + document.images.length") == 0


@pytest.mark.parametrize("width", [1200, 400])
def test_it_is_no_wider_than_the_window(page: Page, report: Path, width: int) -> None:
    page.show(report, width=width, height=900, scheme="light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_text_is_readable_in_both_schemes(page: Page, report: Path) -> None:
    """WCAG AA: 4.5 to 1 for every colour of text and of series against the paper."""
    for scheme in ("light", "dark"):
        page.show(report, width=1200, height=900, scheme=scheme)
        paper = _luminance(page, "--paper")
        for name in ("--ink", "--soft", "--a", "--b", *(f"--s{line}" for line in range(LINES))):
            light, dark = sorted((_luminance(page, name), paper), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, name)


def test_the_schemes_differ(page: Page, report: Path) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        page.show(report, width=1200, height=900, scheme=scheme)
        seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2


def test_no_word_of_a_chart_is_cut_off(page: Page, report: Path) -> None:
    """Every label lies inside its picture."""
    page.show(report, width=1200, height=900, scheme="light")
    outside = page.evaluate(
        """[...document.querySelectorAll("svg text")].filter(text => {
             const word = text.getBoundingClientRect(), picture = text.closest("svg").getBoundingClientRect()
             return word.left < picture.left - 1 || word.right > picture.right + 1
                 || word.top < picture.top - 1 || word.bottom > picture.bottom + 1
           }).map(text => text.textContent)"""
    )
    assert outside == []


def _luminance(page: Page, name: str) -> float:
    """Relative luminance (WCAG 2) of a colour of the style sheet."""
    value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
    channels = [int(value[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
