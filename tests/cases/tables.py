"""Tables: what the file says, character by character."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from cases.case import PEOPLE, TINY, Case, Room, with_personas
from cases.table_files import (
    HALVES,
    MARK,
    READS,
    array,
    lines,
    parquet,
    reads,
    rows,
    table,
    text,
    with_folder,
    with_link,
    with_references,
    zstd,
)

# --- text is what the file says -----------------------------------------------------------------------------------------

SPELLED = ["0.50", "18", "007", "1.0", "1e5", "2024-01-01", "2024-01-01T00:00:00Z", "12:30", "true", "NA", "null", "-0"]
SPELLED_ROWS = [{"prompt": f"q{i}", "reference": value} for i, value in enumerate(SPELLED)]
NUMBERS = ["0.50", "18", "1.0", "1e5", "-0", "123456789012345678901234567890", "true"]
REFERENCES = {
    "refs.csv": (table(SPELLED_ROWS), SPELLED),
    "refs.jsonl": (lines(SPELLED_ROWS), SPELLED),
    "refs.json": (array(SPELLED_ROWS), SPELLED),
    "refs.parquet": (parquet(pa.Table.from_pylist(SPELLED_ROWS)), SPELLED),
    "numbers.jsonl": (
        "".join(f'{{"prompt": "q{i}", "reference": {n}}}\n' for i, n in enumerate(NUMBERS)).encode(),
        NUMBERS,
    ),
    "numbers.json": (
        ("[" + ",".join(f'{{"prompt": "q{i}", "reference": {n}}}' for i, n in enumerate(NUMBERS)) + "]").encode(),
        NUMBERS,
    ),
}
AS_WRITTEN = [
    Case(f"references as spelled, {file}", with_references(file, content), reads={"evaluation": {"reference": right}})
    for file, (content, right) in REFERENCES.items()
]

BREAKS = [f'line one of {i}, "quoted"\nline two\r\n\nline four\u2028 {"x" * 40}' for i in range(60_000)]
LONG = ["a person " + "who counts, " * 4_400_000, *PEOPLE[1:]]  # 50 MB
WHOLE = [
    Case(
        "line breaks in cells, more than is read at a time",
        with_personas("newlines.csv", table({"persona": who, "note": "n"} for who in BREAKS)),
        reads={"personas": {"persona": BREAKS}},
    ),
    Case(
        "a cell of 50 MB",
        with_personas("long.csv", table({"persona": who} for who in LONG)),
        reads={"personas": {"persona": LONG}},
    ),
]

SEPARATORS = [
    f"a person{mark}who counts, {i}" for i, mark in enumerate(["\x0b", "\x0c", "\x1c", "\x85", "\u2028"] * 12)
]
WINDOWS = "\r\n".join(PEOPLE).encode()
WORDS = ["NA", "null", "None", "nan", "-", "#N/A"] * 10
FORMS = [
    Case(
        "what other tools take for the end of a line",
        with_personas("people.txt", text(SEPARATORS)),
        reads={"personas": {"persona": SEPARATORS}},
    ),
    reads("lines of Windows, text", "people.txt", WINDOWS),
    reads("lines of Windows, CSV", "people.csv", b"persona\r\n" + WINDOWS),
    reads("lines of Windows, JSONL", "people.jsonl", lines(rows()).replace(b"\n", b"\r\n")),
    reads("blank lines between rows", "people.jsonl", lines(rows()).replace(b"\n", b"\n\n")),
    reads("escapes of a character in two halves", "people.jsonl", lines(rows(note="\U0001f600"))),
    Case(
        "words that other tools take for nothing",
        with_personas("people.csv", table({"persona": word} for word in WORDS)),
        reads={"personas": {"persona": WORDS}},
    ),
    *[
        reads(f"Parquet's {name}", "people.parquet", parquet({"persona": column}))
        for name, column in {
            "large strings": pa.array(PEOPLE, pa.large_string()),
            "dictionaries": pa.array(PEOPLE).dictionary_encode(),
            "bytes": pa.array([who.encode() for who in PEOPLE]),
        }.items()
    ],
    Case(
        "Parquet's whole numbers",
        with_personas("people.parquet", parquet({"persona": pa.array(range(60))})),
        reads={"personas": {"persona": [str(i) for i in range(60)]}},
    ),
]

# --- only what is named counts ------------------------------------------------------------------------------------------

OTHERS = [
    reads("another column changes its type", "people.jsonl", lines(rows(id=lambda i: i if i % 2 else f"{i}a"))),
    reads("another column comes late", "people.jsonl", lines(rows() + rows(late=1))[len(lines(rows())) :]),
    reads(
        "another column is nested",
        "people.jsonl",
        lines(rows(more=lambda i: [{"deep": [i]}] if i % 2 else {"a": None})),
    ),
    reads("another column has NaN", "people.jsonl", lines(rows(score=lambda i: float("nan") if i % 7 == 0 else 0.5))),
    reads("another column has NaN, JSON", "people.json", array(rows(score=float("nan")))),
    reads("another column is not UTF-8", "people.csv", table(rows(city="Köln")).decode().encode("cp1252")),
    reads("another column is large", "people.jsonl", lines(rows(blob="x" * 200_000))),
    reads(
        "another column of Parquet has lists",
        "people.parquet",
        parquet({"persona": PEOPLE, "ids": [[i] for i in range(60)]}),
    ),
    reads("another column stands twice", "people.csv", table(rows(a=1, b=2)).replace(b"persona,a,b", b"persona,a,a")),
    Case(
        "columns in other orders, types that change from file to file",
        with_folder(
            {
                "1.csv": table({"id": i, "persona": who} for i, who in enumerate(PEOPLE[:20])),
                "2.jsonl": lines({"persona": who, "id": f"{i}a"} for i, who in enumerate(PEOPLE[20:40])),
                "3.parquet": parquet({"other": [0.5] * 20, "persona": PEOPLE[40:]}),
            }
        ),
        reads=READS,
    ),
]

# --- packed, marked, hidden ---------------------------------------------------------------------------------------------

PACKED = [
    reads("packed by gzip, JSONL", "people.jsonl.gz", gzip.compress(lines(rows()))),
    reads("packed by gzip, CSV", "people.csv.gz", gzip.compress(table(rows()))),
    reads(
        "packed by gzip in parts",
        "people.jsonl.gz",
        gzip.compress(lines(rows()[:9])) + gzip.compress(lines(rows()[9:])),
    ),
    reads("packed by zstd, JSONL", "people.jsonl.zst", zstd(lines(rows()))),
    reads("packed by zstd, CSV", "people.csv.zst", zstd(table(rows()))),
    reads("a name in capitals", "PEOPLE.CSV", table(rows())),
]
MARKED = [
    reads("a byte order mark, text", "people.txt", MARK + text(PEOPLE), **{"data.personas.columns": None}),
    reads("a byte order mark, text whose column is named", "people.txt", MARK + text(PEOPLE)),
    reads("a byte order mark, CSV", "people.csv", MARK + table(rows())),
    reads("a byte order mark, CSV in quotes", "people.csv", MARK + table(rows()).replace(b"persona", b'"persona"', 1)),
    reads("a byte order mark, JSONL", "people.jsonl", MARK + lines(rows())),
    reads("a byte order mark, JSON", "people.json", MARK + array(rows())),
    reads("a byte order mark, packed", "people.csv.gz", gzip.compress(MARK + table(rows()))),
    Case("a byte order mark, run file", lambda room: room.text("\ufeff" + room.run().read_text())),
]


def with_template(field: str, content: bytes) -> Callable[[Room], Path]:
    """A run with a template that is a file."""
    inline = field.removesuffix("Url")
    return lambda room: room.run({inline: None, field: room.data("template.jinja", content)})


def plans_without_mark(name: str, field: str, content: bytes) -> Case:
    """A template with a byte order mark, none of which is in the plan."""
    command = "selfalign plan --json {run} > {room}/plan.json && ! grep -c -e '\\ufeff' -e $'\\xef\\xbb\\xbf' {room}/plan.json"
    return Case(name, with_template(field, MARK + content), command=command)


ROLE, CHAT = "generation.roles[writePrompt].templateUrl", "model.chatTemplateUrl"
TEMPLATES = [
    plans_without_mark("a byte order mark, template", ROLE, b"{{ persona }}: one request"),
    plans_without_mark("a byte order mark, chat template", CHAT, (TINY / "model" / "chat_template.jinja").read_bytes()),
    Case(
        "a template that is not UTF-8",
        with_template(ROLE, "{{ persona }}: für".encode("cp1252")),
        code=64,
        says=("spec.generation.roles[writePrompt].templateUrl", "not UTF-8 at byte", "save the file as UTF-8"),
    ),
    Case(
        "a chat template in UTF-16",
        with_template(CHAT, "{{ messages }}".encode("utf-16")),
        code=64,
        says=("spec.model.chatTemplateUrl", "not UTF-8 at byte 0"),
    ),
]
HIDDEN = [
    Case(
        "hidden files",
        with_folder(HALVES | {".0.jsonl": b"\0", "._1.jsonl": b"\0\5\x16\7", ".DS_Store": b"\0"}),
        reads=READS,
    ),
    Case(
        "what editors leave",
        with_folder(HALVES | {"1.jsonl~": b"x", "#1.jsonl#": b"x", "~$1.csv": b"x", ".1.jsonl.swp": b"x"}),
        reads=READS,
    ),
    Case(
        "what is no table",
        with_folder(HALVES | {"README.md": b"# People", "_SUCCESS": b"", ".git/": b"", "3.jsonl/": b""}),
        reads=READS,
    ),
    Case(
        "a text beside tables",
        with_folder(HALVES | {"README.txt": b"how it was made"}),
        code=64,
        says=("holds a text (README.txt) beside tables; take it out",),
    ),
    Case("a link to nothing", with_link("3.jsonl"), code=64, says=("people/3.jsonl is a link to nothing",)),
    Case(
        "tables a folder below",
        with_folder({"data/1.jsonl": lines(rows())}),
        code=64,
        says=("its folders data do; write the URL of one",),
    ),
    Case("a folder of nothing", with_folder({"notes.md": b"x"}), code=64, says=("people holds no .parquet, .jsonl",)),
]

CASES = [
    Case("text", with_personas("people.txt", text(PEOPLE), **{"data.personas.columns": None}), reads=READS),
    *AS_WRITTEN,
    *WHOLE,
    *FORMS,
    *OTHERS,
    *PACKED,
    *MARKED,
    *TEMPLATES,
    *HIDDEN,
]
