"""A page as one HTML file: nothing is loaded, nothing is run, every text of a model is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from selfalign_jobs.report.result import shown, signed
from selfalign_jobs.report.scale import count, duration, number
from selfalign_jobs.report.section import Section
from selfalign_jobs.report.tiles import Tile
from selfalign_jobs.step.second_look import percent

CUT = 700  # characters of a text that are shown at once; the rest unfolds


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("selfalign_jobs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "number": number,
        "duration": duration,
        "shown": shown,
        "signed": signed,
        "printable": printable,
        "sentence": sentence,
    }
    return environment


def page(template: str, parts: str, tiles: Sequence[Tile], sections: Sequence[Section], **words: object) -> str:
    """The page of a template; `parts` is the template that has a macro a kind of section."""
    style = resources.files("selfalign_jobs.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template(template)
        .render(
            parts=parts,
            tiles=tiles,
            sections=sections,
            groups=[(group, list(members)) for group, members in groupby(sections, lambda section: section.group)],
            notes=[(section, note) for section in sections for note in section.notes],
            style=Markup(style),  # ours, and it holds no markup
            cut=CUT,
            **words,
        )
    )


def sentence(words: str) -> str:
    """Words as a heading: the first letter large, names as they are."""
    return words[:1].upper() + words[1:]


def printable(text: str) -> str:
    """Control characters by their numbers, so that no text of a model hides or turns what stands beside it."""
    return _CONTROL.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
