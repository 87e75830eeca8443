"""Tables that cannot be read: named by file and row, with what to write."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa

from cases.case import PEOPLE, Case, Room, with_spec
from cases.table_files import (
    HALVES,
    MARK,
    array,
    lines,
    parquet,
    refused,
    rows,
    table,
    with_folder,
    zipped,
    zstd,
)

PAGE = "<!DOCTYPE html>\n<html><body>Not found</body></html>\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 1234567\n"


def _pipe(room: Room) -> Path:
    os.mkfifo(room.folder / "people.jsonl")
    return room.run({"data.personas.url": room.url("people.jsonl")})


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
    Case("a pipe", _pipe, code=64, says=("people.jsonl is a pipe or a device",)),
    *[
        Case(f"written as {url}", with_spec({"data.personas.url": url}), code=64, says=(says,))
        for url, says in {
            "people.jsonl": "did you mean ./people.jsonl?",
            "data/people.csv": "did you mean ./data/people.csv?",
            "/data/my people.csv": "did you mean file:///data/my%20people.csv?",
            "org/people": "did you mean hf://datasets/org/people?",
            "https://huggingface.co/datasets/org/people/tree/v2": "did you mean hf://datasets/org/people@v2?",
        }.items()
    ],
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

CASES = [*NOT_TEXT, *NAMED_WRONG, *DAMAGED]
