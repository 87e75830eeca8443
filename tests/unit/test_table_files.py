"""Tables in files: read back as they were written, character by character, whatever the format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.sources import DataSource
from selfalign_jobs.flow import seed_of
from selfalign_jobs.places import source_rows
from selfalign_jobs.places.sources import open_source, read_source
from selfalign_jobs.places.tables import piece, stream
from selfalign_jobs.recipes.tables import draw

Table = dict[str, list[str]]  # columns of strings

MARK = "\ufeff"
# What is told apart by no reader of ours: every character that UTF-8 has, the odd ones often.
ODD = st.sampled_from("\n\r\t,;\"'\\ \0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\ufeff{}[]:0é😀")
TEXT = st.text(st.one_of(st.characters(codec="utf-8"), ODD), max_size=12)
WORDS = st.sampled_from(["007", "0.50", "1e5", "1.0", "2024-01-01", "true", "NULL", "null", "NaN", "NA", "-0", "10:00"])
FILLED = st.one_of(WORDS, TEXT.filter(lambda text: bool(text.strip())))  # a prompt is never blank


@st.composite
def tables(draw_from: st.DrawFn, main: st.SearchStrategy[str] = FILLED) -> Table:
    """Prompts with references and a column that nobody reads, in any order."""
    prompts = draw_from(st.lists(main, min_size=1, max_size=6))
    others = st.lists(st.one_of(WORDS, TEXT), min_size=len(prompts), max_size=len(prompts))
    columns = {"prompt": prompts, "reference": draw_from(others), "other, too": draw_from(others)}
    return {name: columns[name] for name in draw_from(st.permutations(list(columns)))}


def rows_of(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def as_csv(table: Table, **how: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **how)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue().encode()


def as_jsonl(table: Table, **how: Any) -> bytes:
    return "".join(json.dumps(row, **how) + "\n" for row in rows_of(table)).encode()


def as_parquet(table: Table, **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, **how)
    return sink.getvalue()


def plain(content: bytes) -> bytes:
    return content


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True)) if content else b""


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": plain, ".gz": gzip.compress, ".zst": zstd}


def source(file: Path, columns: Sequence[str] = ("prompt", "reference"), **named: str) -> DataSource:
    return DataSource(url=file.as_uri(), columns={name: name for name in columns} | named)


def read_bytes(name: str, content: bytes, *columns: str) -> pa.Table:
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        return read_source("evaluation", source(file, columns or ("prompt", "reference")), {})


def held(table: pa.Table) -> Table:
    return {name: table[name].to_pylist() for name in table.column_names}


def expected(table: Table) -> Table:
    return {name: table[name] for name in ("prompt", "reference")}


# --- any strings, any format --------------------------------------------------------------------------------------------


@given(tables(), st.sampled_from([*PACKERS]), st.booleans(), st.booleans(), st.integers(1, 40))
def test_jsonl_reads_back(table: Table, packed: str, escaped: bool, marked: bool, piece_bytes: int) -> None:
    content = (MARK.encode() if marked else b"") + as_jsonl(table, ensure_ascii=escaped)
    with patch.object(stream, "PIECE_BYTES", piece_bytes):
        read = read_bytes(f"rows.jsonl{packed}", PACKERS[packed](content))
    assert held(read) == expected(table)


@given(tables(), st.sampled_from([*PACKERS]), st.booleans(), st.booleans(), st.sampled_from([None, 2]))
def test_json_reads_back(table: Table, packed: str, escaped: bool, marked: bool, indent: int | None) -> None:
    content = (MARK if marked else "") + json.dumps(rows_of(table), ensure_ascii=escaped, indent=indent)
    assert held(read_bytes(f"rows.json{packed}", PACKERS[packed](content.encode()))) == expected(table)


def without_nul(table: Table) -> Table:
    return {name: [text.replace("\0", "") or "x" for text in texts] for name, texts in table.items()}


@given(
    tables(FILLED.filter(lambda text: bool(text.replace("\0", "").strip()))).map(without_nul),
    st.sampled_from([*PACKERS]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 40),
)
def test_csv_reads_back(table: Table, packed: str, quoting: int, end: str, marked: bool, piece_bytes: int) -> None:
    if "\r" in "".join(text for texts in table.values() for text in texts):
        quoting = csv.QUOTE_ALL  # Python's writer leaves it out of quotes where rows end in \n
    content = (MARK.encode() if marked else b"") + as_csv(table, quoting=quoting, lineterminator=end)
    with patch("selfalign_jobs.places.tables.read_csv.PIECE_BYTES", piece_bytes):
        read = read_bytes(f"rows.csv{packed}", PACKERS[packed](content))
    assert held(read) == expected(table)


@given(tables(), st.sampled_from(["zstd", "none", "snappy"]), st.integers(1, 3), st.integers(1, 100))
def test_parquet_reads_back(table: Table, compression: str, group: int, piece_bytes: int) -> None:
    with patch("selfalign_jobs.places.tables.read_parquet.PIECE_BYTES", piece_bytes):
        read = read_bytes("rows.parquet", as_parquet(table, compression=compression, row_group_size=group))
    assert held(read) == expected(table)


LINE = FILLED.map(lambda text: text.replace("\n", " ").replace("\0", " ").rstrip("\r")).filter(
    lambda t: bool(t.strip())
)


@given(
    st.lists(LINE, min_size=1, max_size=8),
    st.sampled_from([*PACKERS]),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]),
    st.booleans(),
    st.integers(1, 40),
)
def test_text_reads_back(lines: list[str], packed: str, end: str, last_ends: bool, piece_bytes: int) -> None:
    if lines[0].startswith(MARK):
        lines = ["x", *lines]  # a mark that a file begins with is none of its text
    content = (end.join(lines) + (end if last_ends else "")).encode()
    with patch.object(stream, "PIECE_BYTES", piece_bytes):
        read = read_bytes(f"rows.txt{packed}", PACKERS[packed](content), "prompt")
    assert held(read) == {"prompt": lines}


def test_a_format_that_is_read_reads_the_same_as_every_other(tmp_path: Path) -> None:
    table = {"reference": ["0.50", "", "007"], "prompt": ['a "b"\nc', "\u2028d,", "é"], "other": ["1", "x", "2"]}
    contents = {
        "rows.csv": as_csv(table),
        "rows.jsonl": as_jsonl(table),
        "rows.ndjson": as_jsonl(table),
        "ROWS.JSONL": as_jsonl(table),
        "rows.json": json.dumps(rows_of(table)).encode(),
        "rows.parquet": as_parquet(table),
    }
    for name, content in contents.items():
        assert held(read_bytes(name, content)) == expected(table), name


# --- of JSON ------------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "0.50": "0.50",
    "1.0": "1.0",
    "1e5": "1e5",
    "1E+05": "1E+05",
    "-0": "-0",
    "-0.0": "-0.0",
    "18446744073709551617": "18446744073709551617",
    "123456789012345678901234567890.10": "123456789012345678901234567890.10",
    "true": "true",
    "false": "false",
    "null": None,
    '"007"': "007",
    '"\\u0000\\ud83d\\ude00"': "\0😀",
    "NaN": "NaN",
}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize("written", SPELLINGS)
def test_a_value_of_json_is_text_as_it_is_spelled(name: str, written: str) -> None:
    row = f'{{"prompt": "p", "reference": {written}}}'
    content = f"{row}\n{row}\n" if name == "rows.jsonl" else f"[{row},\n{row}]"
    assert read_bytes(name, content.encode())["reference"].to_pylist() == [SPELLINGS[written]] * 2


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)


@given(
    st.lists(st.tuples(FILLED, st.dictionaries(TEXT.filter(lambda key: key != "prompt"), JSON_VALUES)), min_size=1),
    st.randoms(use_true_random=False),
)
def test_what_is_not_named_may_be_anything(rows: list[tuple[str, dict[str, Any]]], random: Any) -> None:
    """Numbers here and text there, NaN, keys that come and go, in any order."""
    objects = []
    for prompt, others in rows:
        items = [("prompt", prompt), *others.items()]
        random.shuffle(items)
        objects.append(dict(items))
    content = "".join(json.dumps(row) + "\n" for row in objects).encode()
    assert read_bytes("rows.jsonl", content, "prompt")["prompt"].to_pylist() == [prompt for prompt, _ in rows]
    array = json.dumps(objects).encode()
    assert read_bytes("rows.json", array, "prompt")["prompt"].to_pylist() == [prompt for prompt, _ in rows]


def test_two_columns_may_be_one_of_the_files(tmp_path: Path) -> None:
    table = {'a "b".c é': ["x", "y"]}
    contents = {
        "rows.csv": as_csv(table),
        "rows.jsonl": as_jsonl(table),
        "rows.json": json.dumps(rows_of(table)).encode(),
        "rows.parquet": as_parquet(table),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        both = DataSource(url=(tmp_path / name).as_uri(), columns=dict.fromkeys(("prompt", "reference"), 'a "b".c é'))
        assert held(read_source("evaluation", both, {})) == {"prompt": ["x", "y"], "reference": ["x", "y"]}, name


# --- damaged ones -------------------------------------------------------------------------------------------------------

WHOLE = {"prompt": ["007", 'a "b"\nc', "é😀"], "reference": ["", "1.0", "\u2028"]}
FILES = {
    "rows.csv": as_csv(WHOLE),
    "rows.jsonl": as_jsonl(WHOLE, ensure_ascii=False),
    "rows.json": json.dumps(rows_of(WHOLE)).encode(),
    "rows.parquet": as_parquet(WHOLE),
    "rows.txt": "\n".join(WHOLE["prompt"]).encode(),
    "rows.csv.gz": gzip.compress(as_csv(WHOLE), mtime=0),
    "rows.jsonl.zst": zstd(as_jsonl(WHOLE)),
}


@given(st.sampled_from([*FILES]), st.data())
def test_a_damaged_file_is_read_or_refused_in_words(name: str, data: st.DataObject) -> None:
    """Cut anywhere, or with a byte changed anywhere: what is not read ends in words that name the file."""
    content = bytearray(FILES[name])
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] = data.draw(st.integers(0, 255))
    said = name
    try:
        read_bytes(name, bytes(content), "prompt")
    except ConfigError as error:
        said = str(error)
    assert name in said


# --- of Parquet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([7, -1, None], pa.int64(), ["7", "-1", None]),
        ([2**64 - 1], pa.uint64(), ["18446744073709551615"]),
        ([True, False], pa.bool_(), ["true", "false"]),
        (["0.50", "12.00"], pa.decimal128(6, 2), ["0.50", "12.00"]),
        ([19723], pa.date32(), ["2024-01-01"]),
        (["a", "a", "b"], pa.dictionary(pa.int32(), pa.string()), ["a", "a", "b"]),
        (["é", ""], pa.large_string(), ["é", ""]),
        ([b"\xc3\xa9"], pa.binary(), ["é"]),
        ([None, None], pa.null(), [None, None]),
    ],
    ids=str,
)
def test_a_column_of_parquet_whose_text_is_certain_is_read(
    values: list[Any], kind: pa.DataType, read: list[Any]
) -> None:
    if pa.types.is_decimal(kind):
        column = pa.array(values, pa.string()).cast(kind)
    else:
        column = pa.array(values, kind)
    table = pa.table({"prompt": ["p"] * len(values), "reference": column})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert read_bytes("rows.parquet", sink.getvalue())["reference"].to_pylist() == read


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.5], pa.float64()),
        ([1.0], pa.float32()),
        ([0], pa.timestamp("us")),
        ([0], pa.timestamp("ms", "UTC")),
        ([0], pa.time64("us")),
        ([5], pa.duration("s")),
    ],
    ids=str,
)
def test_a_column_of_parquet_with_several_spellings_is_refused(values: list[Any], kind: pa.DataType) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["p"], "reference": pa.array(values, kind)}), sink)
    with pytest.raises(ConfigError, match=r"rows\.parquet, row 1: reference has the type .*write the column as text"):
        read_bytes("rows.parquet", sink.getvalue())


# --- of CSV -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ('prompt\n5" pipe\nother "quoted" word\n', ['5" pipe', 'other "quoted" word']),
        ("prompt\r\na\r\n\r\nb\r\n", ["a", "b"]),
        ("prompt\ra\rb\r", ["a", "b"]),
        ('prompt\n"a\r\nb"\n', ["a\r\nb"]),
        ("prompt\n  a  \n", ["  a  "]),
        ('"prompt"\n"a"', ["a"]),
        ("id,prompt\n1,NA\n2,null\n", ["NA", "null"]),
    ],
)
def test_a_csv_as_programs_write_them(content: str, prompts: list[str]) -> None:
    assert read_bytes("rows.csv", content.encode(), "prompt")["prompt"].to_pylist() == prompts


# --- large ones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "text"])
def test_a_cell_may_be_larger_than_what_is_read_at_a_time(kind: str) -> None:
    long = 'a "b", c ' * (2 * piece.PIECE_BYTES // 9)
    table = {"prompt": ["before", long, "after"]}
    content = {
        "csv": as_csv(table),
        "jsonl": as_jsonl(table),
        "json": json.dumps(rows_of(table)).encode(),
        "parquet": as_parquet(table),
        "text": "\n".join(table["prompt"]).encode(),
    }[kind]
    read = read_bytes(f"rows.{'txt' if kind == 'text' else kind}", content, "prompt")
    assert read["prompt"].to_pylist() == table["prompt"]


@given(st.integers(1, 60), st.integers(0, 2**63 - 1), st.integers(1, 7), st.data())
def test_what_is_not_held_is_drawn_the_same(rows: int, seed: int, in_piece: int, data: st.DataObject) -> None:
    """A source that is read twice gives the rows that a whole table gives, in the same order."""
    count = data.draw(st.integers(1, rows))
    options = {"seed": seed, "apart": 0, "part": 0, "parts": 1, "count": count, "blank": False}
    whole = pa.table({"persona": [f"p{number}" for number in range(rows)]})

    def pieces() -> Any:
        return (whole.slice(start, in_piece) for start in range(0, rows, in_piece))

    with patch.object(source_rows, "HELD_BYTES", -1):
        streamed = source_rows.SourceRows(pieces)
    assert draw((streamed,), options).to_pylist() == draw((whole,), options).to_pylist()
    assert streamed.read().to_pylist() == whole.to_pylist()
    assert draw((streamed.counted,), options).num_rows == 0


@given(st.integers(1, 2000), st.integers(0, 2**63 - 1))
def test_rows_are_drawn_as_they_always_were(rows: int, seed: int) -> None:
    options = {"seed": seed, "apart": 0, "part": 0, "parts": 1, "count": rows, "blank": False}
    table = pa.table({"persona": [str(number) for number in range(rows)]})
    order = np.random.default_rng(seed_of(seed, "draw")).permutation(rows)
    assert draw((table,), options)["persona"].to_pylist() == [str(number) for number in order]


def test_looking_at_a_table_loads_no_pandas(tmp_path: Path) -> None:
    """It would cost every command a second."""
    table = {"prompt": ["a", "b"], "reference": ["1", "2"]}
    contents = {"csv": as_csv(table), "jsonl": as_jsonl(table), "parquet": as_parquet(table), "txt": b"a\nb\n"}
    for kind, content in contents.items():
        (tmp_path / f"rows.{kind}").write_bytes(content)
    script = (
        "import sys\n"
        "from selfalign_api.plan import DataSource\n"
        "from selfalign_jobs.places.sources import open_source\n"
        "from selfalign_jobs.recipes.tables import draw, questions\n"
        "options = dict(seed=0, apart=0, part=0, parts=1, count=1, blank=False)\n"
        "for url in sys.argv[1:]:\n"
        "    rows = open_source('prompts', DataSource(url=url), {})\n"
        "    draw((rows.counted,), options), draw((rows,), options), questions((rows.read(),), {})\n"
        "assert 'pandas' not in sys.modules\n"
    )
    urls = [(tmp_path / f"rows.{kind}").as_uri() for kind in contents]
    subprocess.run([sys.executable, "-c", script, *urls], check=True, timeout=300)


def test_a_folder_is_its_files_in_order_columns_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"other": 1, "prompt": "three"}\n')
    (tmp_path / "a.csv").write_text("id,prompt\n1,one\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "two", "other": "x"}\n'))
    for dropped in (".c.jsonl", "._a.csv", "~$a.csv", "#a.csv#", "a.csv~", "notes.md", "_SUCCESS"):
        (tmp_path / dropped).write_bytes(b"\0nothing of ours")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "z.jsonl").mkdir()
    rows = open_source("prompts", DataSource(url=tmp_path.as_uri()), {})
    assert rows.read()["prompt"].to_pylist() == ["one", "two", "three"]
