"""The keywords of a text, by a rule that needs no tagger: neither stop words nor names.

A word is a run of letters, with hyphens and apostrophes inside. It is a keyword when it has at least three letters and at
most 32 bytes, is no stop word, is written in small letters somewhere in the text, and nowhere with a capital amid a
sentence, which is how names are written. So a word that stands only at the start of a sentence is none: it may be a name.
The rule is English's: a language that writes nouns with capitals loses them, and one without spaces has few words so short.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence, Set

from selfalign_jobs.flow import seed_of

LETTERS, BYTES = 3, 32  # of a keyword: at least, and at most
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SENTENCE_END = re.compile(r"""(?:^|[.!?:;…\n])["'“”‘’()\[\]*\s-]*$""")

STOP_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        about above across after again against all almost along already also although always among and another any anybody
        anyone anything are around ask away back because been before behind being below beside besides between beyond both
        but came can cannot come could did does doing done down during each either else enough despite except even ever
        every everybody everyone everything few for from further gave get gets give given goes going gone got had has have
        having her here hers herself him himself his how however if in instead into is it its itself just keep kept knew
        know known let like made make makes many may maybe me might mine more most much must my myself near neither never
        next nobody none nor not nothing now off often once one only onto or other others our ours ourselves out over own
        part per perhaps put quite rather really said same saw say says see seem seemed seems seen several shall she should
        since so some somebody someone something sometimes still such take taken than that the their theirs them themselves
        then there therefore these they thing things this those though through thus to together too took toward towards
        under until up upon us use used uses using very via want was way ways we well went were what whatever when where
        whether which while who whoever whole whom whose why will with within without would yes yet you your yours yourself
        yourselves ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't he'd he'll he's i'd i'll i'm i've
        isn't it's let's she'd she'll she's shouldn't that's there's they'd they'll they're they've wasn't we'd we'll we're
        we've weren't what's who's won't wouldn't you'd you'll you're you've
        """,
    )
)


def keywords(text: str) -> list[str]:
    """The distinct keywords of a text, in its order."""
    small: dict[str, None] = {}
    names: set[str] = set()
    end = 0
    for match in WORD.finditer(text):
        word = match[0]
        if word == word.lower():
            small[word] = None
        elif not _begins_sentence(text[max(0, end - 1) : match.start()], first=end == 0):
            names.add(word.lower())
        end = match.end()
    return [word for word in small if word not in names and _is_keyword(word)]


def _begins_sentence(before: str, *, first: bool) -> bool:
    """Whether what stands between the last word and this one ends a sentence."""
    return first or SENTENCE_END.search(before) is not None


def _is_keyword(word: str) -> bool:
    letters = sum(char.isalpha() for char in word)
    return letters >= LETTERS and len(word.encode()) <= BYTES and word.replace("’", "'") not in STOP_WORDS


def drawn(words: Sequence[str], count: int, *seed: object, but: Set[str] = frozenset()) -> list[str] | None:
    """So many of the words, without `but`, in a random order that the seed decides; None where there are too few."""
    able = [word for word in words if word not in but]
    if len(able) < count:
        return None
    return random.Random(seed_of(*seed)).sample(able, count)
