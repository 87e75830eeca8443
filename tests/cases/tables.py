"""Tables: what the file says, character by character; what cannot be read is named with what to write."""

from __future__ import annotations

from cases.case import PEOPLE, Case, with_personas

CASES = [
    Case(
        "text",
        with_personas("people.txt", "".join(f"{person}\n" for person in PEOPLE), **{"data.personas.columns": None}),
        reads={"personas": {"persona": [*PEOPLE]}},
    ),
]
