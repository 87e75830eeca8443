"""A document carried by a log: lines of text among others, and a last one that says that all of it came."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256

from selfalign_api.plan_values import Json

MARK, END = "selfalign-read ", "selfalign-read-end "
LINE_CHARACTERS = 8192  # container runtimes break a line of 16 KiB
# A kubelet begins a log anew after 10 MiB, and what was before it is not served any more.
MOST_CHARACTERS = 8 << 20
MOST_BYTES = 512 << 20  # of the document, unpacked


def frames(document: Json) -> Iterator[str]:
    """The lines of a document. Raises ValueError for one that is too long for a log."""
    text = base64.b64encode(zlib.compress(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))).decode()
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{len(text):,} characters, and a pod's log carries {MOST_CHARACTERS:,}")
    for start in range(0, len(text), LINE_CHARACTERS):
        yield MARK + text[start : start + LINE_CHARACTERS]
    yield END + sha256(text.encode()).hexdigest()


def document_of(lines: Iterable[str]) -> Json:
    """What `frames` made, from among other lines. Raises ValueError when it did not come whole."""
    text, end = "", ""
    for line in lines:
        if line.startswith(MARK):
            text += line.removeprefix(MARK).strip()
        elif line.startswith(END):
            end = line.removeprefix(END).strip()
    if not end or sha256(text.encode()).hexdigest() != end:
        raise ValueError("it did not come whole")
    unpack = zlib.decompressobj()
    try:
        body = unpack.decompress(base64.b64decode(text, validate=True), MOST_BYTES)
        return json.loads(body)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"it is no document: {error}") from None
