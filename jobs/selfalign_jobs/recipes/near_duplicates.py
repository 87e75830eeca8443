"""Texts that are too like an earlier one: found by MinHash, decided by the true Jaccard of their words; or by vectors.

Broder (1997): two sets share their least element under a random order with a probability that is their Jaccard. Sets that
agree in all rows of a band (Leskovec, Rajaraman, Ullman, ch. 3) are candidates, and every candidate is measured. All hashes
are fixed: what is dropped goes into the digests of what is made of the rest.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from selfalign_api.plan_values import Json
from selfalign_jobs.flow import seed_of
from selfalign_jobs.recipes.hashes import Hashes, Numbers, mixed, rows_a_band
from selfalign_jobs.recipes.vectors import Vectors

HASHES = 256
TEXTS = 16_384  # that are hashed at a time


class Compared(Protocol):
    """What is compared: of a number of things, which may be alike, and how alike two are."""

    def __len__(self) -> int: ...

    def keys(self, threshold: float) -> Hashes | npt.NDArray[np.uint32]:
        """A key a band for each; two that are as alike as the threshold share one, nearly always."""

    def may_be_alike(self, one: Numbers, other: Numbers, threshold: float, /) -> npt.NDArray[np.bool_]:
        """Which of these pairs, each of which shares a key, are worth measuring."""

    def similarities(self, number: int, others: Numbers) -> npt.NDArray[np.float64]:
        """How alike one is to each of others."""


def near_duplicates(
    texts: Sequence[str], rule: Mapping[str, Json], vectors: npt.NDArray[np.float32] | None = None
) -> Numbers:
    """For each text the number of the earlier one that it is too like; -1 for those that are kept.

    A text is compared with the kept ones before it, never with later ones: what is appended changes nothing before it.
    `rule`: method Exact (equal but for case, spaces and Unicode's composed forms), MinHash with threshold and ngram, or Embedding
    with threshold, for which each text has its vector of length 1.
    """
    if rule["method"] == "Exact":
        return _equal(texts)
    compared: Compared = shingle_sets(texts, rule["ngram"]) if vectors is None else Vectors(vectors)
    return _kept_or_like(compared, *_buckets(compared, rule["threshold"]), rule["threshold"])


def words_of(text: str) -> list[str]:
    """The words that are compared; in scripts that put no spaces between them, the characters."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return folded.split() if folded.isascii() else _WORD.findall(folded)


# Thai to Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def _equal(texts: Sequence[str]) -> Numbers:
    seen: dict[str, int] = {}
    first = [seen.setdefault(" ".join(words_of(text)), number) for number, text in enumerate(texts)]
    return np.array([-1 if number == earlier else earlier for number, earlier in enumerate(first)], np.int64)


# --- sets of word n-grams -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sets:
    """Sets of hashes: those of set n, ascending and each once, are values[starts[n]:starts[n + 1]]."""

    values: Hashes
    starts: Numbers

    def __len__(self) -> int:
        return len(self.starts) - 1

    def keys(self, threshold: float) -> Hashes:
        """A key a band for each set, from its least hashes; the last is one of the whole set."""
        rows = rows_a_band(threshold, HASHES)
        keys = np.empty((HASHES // rows + 1, len(self)), np.uint64)
        for at in range(0, len(self), TEXTS):
            keys[:, at : at + TEXTS] = _keys(self, at, min(at + TEXTS, len(self)), rows)
        return keys

    def may_be_alike(self, one: Numbers, _other: Numbers, _threshold: float, /) -> npt.NDArray[np.bool_]:
        """All of these pairs: few sets share a key by chance."""
        return np.ones(len(one), bool)

    def similarities(self, number: int, others: Numbers) -> npt.NDArray[np.float64]:
        """The Jaccard of a set with each of others: what both have over what either has."""
        mine = self.values[self.starts[number] : self.starts[number + 1]]
        sizes = self.starts[others + 1] - self.starts[others]
        first = np.cumsum(sizes) - sizes
        theirs = self.values[np.arange(sizes.sum()) - np.repeat(first - self.starts[others], sizes)]
        found = mine[np.minimum(np.searchsorted(mine, theirs), len(mine) - 1)] == theirs
        both = np.add.reduceat(found.astype(np.int64), first)
        shares: npt.NDArray[np.float64] = both / (len(mine) + sizes - both)
        return shares


def shingle_sets(texts: Sequence[str], ngram: int) -> Sets:
    """The n-grams of words of each text; of one with fewer words all of it, as one."""
    hash_of = _WordHashes()
    parts = [_sets_of(texts[at : at + TEXTS], ngram, hash_of) for at in range(0, len(texts), TEXTS)]
    sizes = np.concatenate([np.empty(0, np.int64), *(sizes for _, sizes in parts)])
    return Sets(np.concatenate([np.empty(0, np.uint64), *(values for values, _ in parts)]), _starts(sizes))


class _WordHashes(dict[str, int]):
    """The hash of each word, computed once."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = found = int.from_bytes(digest, "little")
        return found


def _sets_of(texts: Sequence[str], ngram: int, hash_of: _WordHashes) -> tuple[Hashes, Numbers]:
    """The n-grams of some texts, those of one text after those of another, and how many each has."""
    split = [words_of(text) or [""] for text in texts]
    words = np.array([hash_of[word] for each in split for word in each], np.uint64)
    lengths = np.array([len(each) for each in split], np.int64)
    grams = np.maximum(lengths - ngram + 1, 1)  # of each text
    owner = np.repeat(np.arange(len(texts)), grams)
    begin = np.arange(len(owner)) - np.repeat(_starts(grams)[:-1] - _starts(lengths)[:-1], grams)
    hashes = np.zeros(len(owner), np.uint64)
    for place in range(ngram):
        inside = begin + place < _starts(lengths)[1:][owner]
        hashes[inside] = mixed(hashes[inside] + words[begin[inside] + place])
    order = np.lexsort((hashes, owner))
    hashes, owner = hashes[order], owner[order]
    new = np.ones(len(owner), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    return hashes[new], np.bincount(owner[new], minlength=len(texts)).astype(np.int64)


def _starts(sizes: Numbers) -> Numbers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


# --- candidates -----------------------------------------------------------------------------------------------------------


def _buckets(compared: Compared, threshold: float) -> tuple[Numbers, Numbers]:
    """Which may be alike, by a key a band: their numbers, and beside each the number of a bucket that it shares with another."""
    members, buckets, before = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for band in compared.keys(threshold):
        order = np.argsort(band, kind="stable")
        run = np.cumsum(np.diff(band[order], prepend=band[order][:1]) != 0)
        sizes = np.bincount(run, minlength=1)
        firsts = np.flatnonzero(sizes[run] == 2)[::2]  # of buckets of two: nearly all that chance brings about
        unlike = ~compared.may_be_alike(order[firsts], order[firsts + 1], threshold)
        sizes[run[firsts[unlike]]] = 0
        several = sizes[run] > 1
        members.append(order[several])
        buckets.append(run[several] + before)
        before += len(band)
    return np.concatenate(members), np.concatenate(buckets)


def _keys(sets: Sets, begin: int, end: int, rows: int) -> Hashes:
    """A key a band for sets begin … end, from the least hashes; the last is one of the whole set."""
    first, last = sets.starts[begin], sets.starts[end]
    values, starts = sets.values[first:last], sets.starts[begin:end] - first
    keys = np.zeros((HASHES // rows + 1, end - begin), np.uint64)
    for number, factor in enumerate(_FACTORS[: HASHES // rows * rows]):
        least = np.minimum.reduceat(values * factor, starts)
        keys[number // rows] = mixed(keys[number // rows] + least)
    keys[-1] = np.add.reduceat(mixed(values), starts)
    return keys


_FACTORS = np.array(
    [seed_of("minhash", number) * 2 + 1 for number in range(HASHES)], np.uint64
)  # odd: each a permutation


# --- the decision ---------------------------------------------------------------------------------------------------------


def _kept_or_like(compared: Compared, members: Numbers, buckets: Numbers, threshold: float) -> Numbers:
    """One after another: what is near a kept one before it goes, else it is kept for those after it."""
    like = np.full(len(compared), -1, np.int64)
    order = np.argsort(members, kind="stable")
    members, buckets = members[order], buckets[order]
    edges = np.flatnonzero(np.diff(members, prepend=-1, append=-1))
    kept: defaultdict[int, list[int]] = defaultdict(list)
    for begin, end in pairwise(edges.tolist()):
        number, mine = int(members[begin]), buckets[begin:end].tolist()
        earlier = {other for bucket in mine for other in kept[bucket]}
        if earlier:
            others = np.array(sorted(earlier), np.int64)
            alike = np.flatnonzero(compared.similarities(number, others) >= threshold)
            if len(alike):
                like[number] = others[alike[0]]
                continue
        for bucket in mine:
            kept[bucket].append(number)
    return like
