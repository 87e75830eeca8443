"""The built-in users of FSPO: distinct natural English sentences about what somebody is like, made from parts that we wrote.

As the personas' are: sentence i is a mixed-radix number over the parts, so that no sentence comes twice.
"""

from __future__ import annotations

import pyarrow as pa

from selfalign_jobs.recipes.personas import Sentences, parts

COUNT = 131_072

WHO = """
high school student, retired teacher, nurse on night shifts, carpenter, doctoral student in physics, stay-at-home parent,
small shop owner, software developer, farmer, lawyer, amateur astronomer, taxi driver, marketing manager, novelist, chef,
electrician, social worker, competitive swimmer, tax adviser, primary school pupil, retired engineer, freelance translator
""".replace("\n", " ")

KNOWS = """
knows nothing of the matter yet, has read a book or two on most things, works in a technical field, learns best from
examples, has forgotten most of what school taught, likes to look up sources, is new to the language,
thinks in numbers, thinks in pictures, is an expert in one field and a beginner in all others
""".replace("\n", " ")

WANTS = """
the conclusion first, every step of the reasoning, a comparison of alternatives, a warning of what can go wrong,
a story or an image to remember it by, exact terms, plain everyday words, figures and dates, a question to think about,
something that can be tried today, the history behind it, an honest word on what is not known
""".replace("\n", " ")

MINDS = """
jokes, jargon, lists, long introductions, advice that was not asked for, repetition, vague words, exaggeration,
a formal tone, a chatty tone, moral lessons, apologies
""".replace("\n", " ")

FORM = """
in as few words as possible, in a few short paragraphs, at length, as a list of points, as if told by a friend,
as an encyclopedia would put it
""".replace("\n", " ")

SENTENCES = Sentences(tuple(parts(text) for text in (WHO, KNOWS, WANTS, MINDS, FORM)))


def user(index: int) -> str:
    """User number `index`, 0 <= index < SENTENCES.space; different for each."""
    who, knows, wants, minds, form = SENTENCES.chosen(index)
    article = "An" if who[0] in "aeiou" else "A"
    return f"{article} {who} who {knows}, wants {wants}, dislikes {minds}, and likes to be answered {form}."


def table() -> pa.Table:
    """The built-in users as a table with the column `description`."""
    return pa.table({"description": pa.array([user(index) for index in range(COUNT)])})
