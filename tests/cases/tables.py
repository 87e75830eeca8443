"""Tables: what the file says, character by character; what cannot be read is named with what to write."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cases.case import PEOPLE, TINY, Case, Room, with_personas

MARK = b"\xef\xbb\xbf"
PAGE = "<!DOCTYPE html>\n<html><body>Not found</body></html>\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 1234567\n"
READS = {"personas": {"persona": [*PEOPLE]}}


def table(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """CSV."""
    rows = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def lines(rows: Iterable[object]) -> bytes:
    """JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def array(rows: Iterable[object]) -> bytes:
    """A JSON array."""
    return json.dumps(list(rows)).encode()


def text(rows: Iterable[str]) -> bytes:
    """Lines of text."""
    return "".join(f"{row}\n" for row in rows).encode()


def parquet(columns: Mapping[str, Any] | pa.Table) -> bytes:
    """Parquet."""
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), sink)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    """Packed by zstd."""
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def zipped(content: bytes) -> bytes:
    """A zip archive, as Excel's workbooks are too."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("people.csv", content)
    return sink.getvalue()


def rows(**others: object) -> list[dict[str, object]]:
    """A row a person; `others` stand beside: a value, or a function of the row's number."""
    return [
        {"persona": who} | {name: value(i) if callable(value) else value for name, value in others.items()}
        for i, who in enumerate(PEOPLE)
    ]


def reads(name: str, file: str, content: bytes, **changes: Any) -> Case:
    """A file whose personas are read as they were written."""
    return Case(name, with_personas(file, content, **changes), reads=READS)


def refused(name: str, file: str, content: bytes, *says: str, **changes: Any) -> Case:
    """A file that is refused in these words."""
    return Case(name, with_personas(file, content, **changes), code=64, says=says)


def with_folder(files: Mapping[str, bytes]) -> Callable[[Room], Path]:
    """A run whose personas are a folder of these files; a name that ends in / is a folder in it."""

    def write(room: Room) -> Path:
        for name, content in files.items():
            if name.endswith("/"):
                (room.folder / "people" / name).mkdir(parents=True)
            else:
                room.data(f"people/{name}", content)
        return room.run({"data.personas.url": room.url("people")})

    return write


def with_link(name: str) -> Callable[[Room], Path]:
    """A folder of which one file is a link whose file is not there, as git-annex leaves it."""

    def write(room: Room) -> Path:
        run = with_folder(HALVES)(room)
        (room.folder / "people" / name).symlink_to("../.git/annex/objects/x")
        return run

    return write


def with_prompts(file: str, content: bytes, columns: dict[str, str] | None = None) -> Callable[[Room], Path]:
    """A run that asks prompts of the user's."""
    return lambda room: room.run(
        {
            "data": {"prompts": {"url": room.data(file, content), "count": 2, "draw": "Same"}}
            | ({"prompts": {"url": room.url(file), "columns": columns, "count": 2, "draw": "Same"}} if columns else {})
        }
    )


def with_references(file: str, content: bytes) -> Callable[[Room], Path]:
    """A run whose answers are compared with references."""
    columns = {"prompt": "prompt", "reference": "reference"}
    checks = [{"name": "accuracy", "type": "ExactMatch"}]
    return lambda room: room.run(
        {
            "evaluation": {
                "when": "EachIteration",
                "prompts": {"url": room.data(file, content), "columns": columns},
                "checks": checks,
            }
        }
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
HALVES = {"1.jsonl": lines(rows()[:30]), "2.jsonl": lines(rows()[30:])}
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

# --- what is no text, or not what its name says -------------------------------------------------------------------------

NOT_TEXT = [
    refused(
        "not UTF-8, CSV",
        "people.csv",
        "persona\na café owner\n".encode("cp1252"),
        "people.csv, line 2: persona has a byte (0xE9) that is not UTF-8; save",
    ),
    refused(
        "not UTF-8, JSONL",
        "people.jsonl",
        b'{"persona": "a"}\n{"persona": "caf\xe9"}\n',
        "people.jsonl, line 2: persona has a byte (0xE9)",
    ),
    refused(
        "not UTF-8, JSON",
        "people.json",
        b'[{"persona": "a"}, {"persona": "caf\xe9"}]',
        "people.json, row 2: persona has a byte (0xE9)",
    ),
    refused("not UTF-8, text", "people.txt", b"a\nb\ncaf\xe9\n", "people.txt, line 3: there is a byte (0xE9)"),
    refused(
        "not UTF-8, Parquet",
        "people.parquet",
        parquet({"persona": pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"caf\xe9"]).buffers())}),
        "people.parquet, row 2: persona has a byte (0xE9)",
    ),
    refused(
        "half a character, JSONL",
        "people.jsonl",
        b'{"persona": "\\ud83d"}\n',
        "line 1: persona has half of a surrogate pair (\\ud83d)",
    ),
    refused(
        "half a character, JSON",
        "people.json",
        b'[{"persona": "a \\udca9 b"}]',
        "row 1: persona has half of a surrogate pair (\\udca9)",
    ),
    refused(
        "a list, JSONL",
        "people.jsonl",
        lines([{"persona": "a"}, {"persona": ["a"]}]),
        "line 2: persona is a list, where text is read; name a column of text",
    ),
    refused(
        "an object, JSON",
        "people.json",
        array([{"persona": {"name": "a"}}]),
        "row 1: persona is an object, where text is read",
    ),
    refused(
        "a list, Parquet",
        "people.parquet",
        parquet({"persona": [["a"], ["b"]]}),
        "row 1: persona is a list, where text is read",
    ),
    refused(
        "a struct, Parquet",
        "people.parquet",
        parquet({"persona": [{"name": "a"}]}),
        "row 1: persona is an object, where text is read",
    ),
    refused(
        "chats as personas",
        "people.jsonl",
        lines({"persona": [{"role": "user", "content": who}]} for who in PEOPLE),
        "line 1: persona is a conversation (a list of messages), where text is read",
    ),
    refused(
        "chats as personas, Parquet",
        "people.parquet",
        parquet({"persona": [[{"role": "user", "content": "a"}]]}),
        "row 1: persona is a conversation",
    ),
    refused(
        "floats, Parquet",
        "people.parquet",
        parquet({"persona": [0.5, 1.0]}),
        "row 1: persona has the type double, whose text is not certain",
    ),
    refused("NUL bytes, CSV", "people.csv", b"persona\na\nb\0c\n", "people.csv has NUL bytes"),
    refused(
        "NUL bytes far down",
        "people.csv",
        b"persona\n" + b"somebody\n" * 1000 + b"b\0c\n",
        "people.csv, line 1002: persona has NUL bytes",
    ),
    refused("NUL bytes, text", "people.txt", b"somebody\n" * 1000 + b"b\0c\n", "people.txt, line 1001: has NUL bytes"),
    refused("UTF-16", "people.csv", "persona\na\n".encode("utf-16"), "people.csv is UTF-16; save it as UTF-8 (iconv"),
    refused(
        "UTF-16 without a mark",
        "people.jsonl",
        '{"persona": "a"}\n'.encode("utf-16-le"),
        "people.jsonl has NUL bytes, so it is UTF-16",
    ),
]
NAMED_WRONG = [
    refused("a JSON array named .jsonl", "people.jsonl", array(rows()), "people.jsonl is a JSON array: name it .json"),
    refused(
        "a JSON array over lines named .jsonl",
        "people.jsonl",
        json.dumps(rows(), indent=2).encode(),
        "is a JSON array: name it .json",
    ),
    refused(
        "JSON lines named .json",
        "people.json",
        lines(rows()),
        "people.json has JSON lines, an object a line: name it .jsonl",
    ),
    refused(
        "one object named .json",
        "people.json",
        json.dumps({"data": rows()}).encode(),
        "people.json is one object, not an array of objects; write one",
    ),
    refused(
        "objects over lines",
        "people.jsonl",
        json.dumps(rows()[0], indent=2).encode(),
        "people.jsonl, line 1: is no JSON",
        "write one whole object a line",
    ),
    refused(
        "lines that are no objects",
        "people.jsonl",
        b'"a"\n"b"\n',
        "line 1: is a value, not an object; write {COLUMN: VALUE, …} a line",
    ),
    refused("CSV named .jsonl", "people.jsonl", table(rows()), "people.jsonl, line 1: is no JSON"),
    refused(
        "CSV named .parquet", "people.parquet", table(rows()), "people.parquet is no Parquet; it begins with 'persona"
    ),
    refused(
        "Parquet named .csv", "people.csv", parquet({"persona": PEOPLE}), "people.csv is Parquet; name it .parquet"
    ),
    refused("JSON lines named .csv", "people.csv", lines(rows()), "people.csv is JSON: name it .jsonl"),
    refused(
        "gzip not named",
        "people.jsonl",
        gzip.compress(lines(rows())),
        "people.jsonl is packed by gzip; name it so (.jsonl.gz)",
    ),
    refused("named gzip", "people.jsonl.gz", lines(rows()), "people.jsonl.gz is not packed by gzip, as its name says"),
    refused("zstd named gzip", "people.jsonl.gz", zstd(lines(rows())), "is not packed by gzip, as its name says"),
    refused("bzip2", "people.csv", bz2.compress(table(rows())), "people.csv is packed by bzip2; unpack it"),
    refused(
        "a workbook named .csv",
        "people.csv",
        zipped(table(rows())),
        "people.csv is a zip archive or a workbook of Excel",
    ),
    refused(
        "a workbook",
        "people.xlsx",
        zipped(table(rows())),
        "people.xlsx is of no kind that is read; write one that ends in .parquet, .jsonl",
    ),
    refused("tabs", "people.tsv", table(rows()), "people.tsv is of no kind that is read"),
    refused(
        "packed Parquet",
        "people.parquet.gz",
        gzip.compress(parquet({"persona": PEOPLE})),
        "people.parquet.gz is of no kind that is read",
    ),
    refused("a web page", "people.jsonl", PAGE.encode(), "people.jsonl is a web page, not the file itself"),
    refused(
        "a pointer of LFS, JSONL",
        "people.jsonl",
        POINTER.encode(),
        "people.jsonl is a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    ),
    refused("a pointer of LFS, Parquet", "people.parquet", POINTER.encode(), "people.parquet is a pointer of Git LFS"),
    refused("a pointer of LFS, text", "people.txt", POINTER.encode(), "people.txt is a pointer of Git LFS"),
    Case(
        "a pointer of LFS in a folder",
        with_folder(HALVES | {"3.jsonl": POINTER.encode()}),
        code=64,
        says=("people/3.jsonl is a pointer of Git LFS",),
    ),
    Case(
        "save_to_disk",
        with_folder(
            {"data-00000-of-00001.arrow": b"\xff\xff\xff\xff", "dataset_info.json": b"{}", "state.json": b"{}"}
        ),
        code=64,
        says=("people is a dataset as save_to_disk writes it; write it with to_parquet or to_json",),
    ),
    Case(
        "save_to_disk of several splits",
        with_folder({"dataset_dict.json": b'{"splits": ["train"]}', "train/data-00000-of-00001.arrow": b"\xff"}),
        code=64,
        says=("people is a dataset as save_to_disk writes it",),
    ),
]

# --- damaged, empty, in part --------------------------------------------------------------------------------------------

DAMAGED = [
    refused(
        "gzip cut short",
        "people.jsonl.gz",
        gzip.compress(lines(rows()))[:-9],
        "people.jsonl.gz is cut short or damaged",
    ),
    refused("zstd cut short", "people.csv.zst", zstd(table(rows()))[:-9], "people.csv.zst is cut short or damaged"),
    refused(
        "Parquet cut short",
        "people.parquet",
        parquet({"persona": PEOPLE})[:-9],
        "people.parquet is cut short or damaged",
    ),
    refused("JSONL cut short", "people.jsonl", lines(rows())[:-9], "people.jsonl, line 60: is no JSON"),
    refused("JSON cut short", "people.json", array(rows())[:-9], "people.json is no JSON"),
    refused(
        "a quote that is never closed",
        "people.csv",
        b'persona\na\n"b\nc\nd\n',
        "people.csv, line 3: a quote is opened here and never closed",
    ),
    refused(
        "quotes inside quotes",
        "people.csv",
        b'persona,id\n"he says "hi" to me",1\n',
        "people.csv, line 2: text follows a closing quote",
        "write a quote inside a cell twice",
    ),
    refused(
        "a comma outside quotes",
        "people.csv",
        b"id,persona\n1,a b\n2,a, b\n",
        "people.csv, line 3: the row has 3 cells and the first row 2",
    ),
    refused("a row too short", "people.csv", b"id,persona\n1,a\n2\n", "people.csv, line 3: the row has 1 cells"),
    refused(
        "semicolons",
        "people.csv",
        table(rows(id=1)).replace(b",", b";"),
        "people.csv has no column persona",
        "cells are separated by semicolons there; write it with commas",
    ),
    refused(
        "a column twice, CSV",
        "people.csv",
        b"persona,persona\na,b\n",
        "people.csv, line 1: 2 columns are named persona; name one of them otherwise",
    ),
    refused(
        "a key twice, JSONL",
        "people.jsonl",
        b'{"persona": "a"}\n{"persona": "a", "persona": "b"}\n',
        "people.jsonl, line 2: persona stands here twice; keep one",
    ),
    refused(
        "a key twice, JSON",
        "people.json",
        b'[{"persona": "a", "persona": "b"}]',
        "people.json, row 1: persona stands here twice",
    ),
    refused(
        "a column twice, Parquet",
        "people.parquet",
        parquet(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["persona", "persona"])),
        "people.parquet has 2 columns named persona",
    ),
    refused("nothing", "people.csv", b"", "people.csv is empty; write the URL of a file with at least one row"),
    refused("a mark and nothing", "people.txt", MARK, "people.txt has no rows"),
    refused("a header alone", "people.csv", b"persona\n", "people.csv has no rows"),
    refused("an array of nothing", "people.json", b"[]", "people.json has no rows"),
    refused("packed nothing", "people.jsonl.gz", gzip.compress(b""), "people.jsonl.gz has no rows"),
    refused("blank lines", "people.jsonl", b"\n\n", "people.jsonl has no rows"),
    refused(
        "a blank cell",
        "people.csv",
        b"id,persona\n1,a\n2,\n",
        "1 of 2 rows have an empty persona, the first people.csv, line 3; remove them",
    ),
    refused(
        "a null",
        "people.jsonl",
        lines([{"persona": "a"}, {"persona": None}]),
        "1 of 2 rows have an empty persona, the first people.jsonl, line 2",
    ),
    refused(
        "a key left out",
        "people.json",
        array([{"persona": "a"}, {"id": 1}]),
        "1 of 2 rows have an empty persona, the first people.json, row 2",
    ),
    refused(
        "another name",
        "people.jsonl",
        lines({"who": who} for who in PEOPLE),
        "people.jsonl has no column persona; it has who; write columns: {persona: COLUMN}",
    ),
    Case(
        "another name in one file of several",
        with_folder({"1.csv": table(rows()), "2.csv": table(rows()).replace(b"persona", b"who")}),
        code=64,
        says=("2.csv has no column persona; it has who",),
    ),
]

# --- conversations ------------------------------------------------------------------------------------------------------

USER, SYSTEM = {"role": "user", "content": "one"}, {"role": "system", "content": "be short"}
ANSWER, LATER = {"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}
MESSAGES = {"messages": "messages"}
PROMPTS = {"prompts": {"prompt": ["one", "one"]}}


def asks(name: str, file: str, content: bytes, columns: dict[str, str] | None = None) -> Case:
    """Conversations whose prompts are read."""
    return Case(name, with_prompts(file, content, columns), reads=PROMPTS)


def cannot_ask(name: str, row: Mapping[str, object], *says: str, columns: dict[str, str] | None = None) -> Case:
    """A conversation of which no prompt can be made."""
    return Case(name, with_prompts("prompts.jsonl", lines([row, row]), columns), code=64, says=says)


CHATS = [
    asks("prompts as text", "prompts.jsonl", lines([{"prompt": "one"}] * 2)),
    asks("prompts of TRL's", "prompts.jsonl", lines([{"prompt": [USER]}] * 2)),
    asks("prompts of TRL's, Parquet", "prompts.parquet", parquet({"prompt": [[USER]] * 2})),
    asks("prompts as text and of TRL's", "prompts.jsonl", lines([{"prompt": [USER]}, {"prompt": "one"}])),
    asks(
        "conversations", "prompts.jsonl", lines([{"messages": [USER, ANSWER, LATER]}, {"messages": [USER]}]), MESSAGES
    ),
    asks("conversations, JSON", "prompts.json", array([{"messages": [USER, ANSWER]}] * 2), MESSAGES),
    asks("conversations, Parquet", "prompts.parquet", parquet({"chat": [[USER, ANSWER]] * 2}), {"messages": "chat"}),
    asks(
        "a content of one part",
        "prompts.jsonl",
        lines([{"prompt": [USER | {"content": [{"type": "text", "text": "one"}]}]}] * 2),
    ),
    cannot_ask(
        "a prompt of several turns",
        {"prompt": [USER, ANSWER, LATER]},
        "line 1: prompt is a conversation of 3 messages, and a prompt here is one user turn",
        "columns: {messages: COLUMN}",
    ),
    cannot_ask("a prompt with a system message", {"prompt": [SYSTEM, USER]}, "prompt is a conversation of 2 messages"),
    cannot_ask(
        "a conversation with a system message",
        {"messages": [SYSTEM, USER]},
        "messages begins with a message of the system, and a prompt here is one user turn",
        columns=MESSAGES,
    ),
    cannot_ask(
        "a conversation that the model begins",
        {"messages": [ANSWER, USER]},
        "messages begins with a message of the assistant",
        columns=MESSAGES,
    ),
    cannot_ask(
        "two turns of the user's",
        {"messages": [USER, LATER]},
        "messages has two user turns before an answer",
        columns=MESSAGES,
    ),
    cannot_ask(
        "another role",
        {"messages": [{"role": "human", "content": "one"}]},
        "has a message that has the role human; write system, user, assistant",
        columns=MESSAGES,
    ),
    cannot_ask(
        "ShareGPT's",
        {"messages": [{"from": "human", "value": "one"}]},
        "messages is a list of {from, value} (ShareGPT's",
        columns=MESSAGES,
    ),
    cannot_ask(
        "text as conversations",
        {"messages": "one"},
        "messages is text, where a conversation, a list of {role, content}, is read",
        columns=MESSAGES,
    ),
    cannot_ask(
        "a picture",
        {"messages": [USER | {"content": [{"type": "image", "url": "x"}]}]},
        "messages has a content that is a list, where text is read",
        columns=MESSAGES,
    ),
    cannot_ask(
        "an empty turn", {"messages": [USER | {"content": ""}]}, "2 of 2 rows have an empty prompt", columns=MESSAGES
    ),
    cannot_ask(
        "conversations that are not named",
        {"messages": [USER]},
        "has no column prompt; it has messages",
        "columns: {messages: messages} for conversations",
    ),
    cannot_ask(
        "both",
        {"prompt": "one", "messages": [USER]},
        "stands beside prompt; write the one that holds the prompts",
        columns=MESSAGES | {"prompt": "prompt"},
    ),
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
    *NOT_TEXT,
    *NAMED_WRONG,
    *DAMAGED,
    *CHATS,
]
