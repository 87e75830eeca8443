"""A section of the report: what its part of the template shows, and what of it deserves a second look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """One section: `kind` names its part of the template, `facts` are what that part shows."""

    id: str
    title: str
    kind: str
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    group: str = ""  # the iteration, where there are several
    of: str = ""  # the table or the model that it is about, where the iteration has several such sections

    @property
    def heading(self) -> str:
        """The title with its iteration."""
        return f"{self.title}, {self.group}" if self.group else self.title


def told_apart(sections: Sequence[Section]) -> Iterator[Section]:
    """Sections of one kind with what each is about, in title and id; one alone says it all."""
    several = Counter(section.id for section in sections)
    for section in sections:
        if several[section.id] == 1:
            yield section
        else:
            title = section.title if section.kind == "funnel" else f"{section.title}: {section.of}"
            yield replace(section, id=f"{section.id}-{section.of.replace(' ', '-')}", title=title)
