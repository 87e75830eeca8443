"""The built-in personas: distinct natural English sentences, made from parts that we wrote.

Persona-Hub's data is CC BY-NC-SA 4.0 and cannot be shipped; SAO needs many different people, not these ones. Sentence i is
a mixed-radix number over the parts, taken at a stride coprime to their product, so neighbours differ in every part and no
sentence comes twice.
"""

from __future__ import annotations

import math

import pyarrow as pa

COUNT = 262_144

MANNERS = """
retired, newly qualified, self-taught, patient, curious, restless, meticulous, soft-spoken, stubborn, practical, frugal,
cheerful, sceptical, ambitious, part-time, veteran, freelance, overworked, thoughtful, widely read, shy, plain-speaking,
inventive, cautious, left-handed, bilingual, night-shift, semi-retired, well-travelled, absent-minded, sociable
""".replace("\n", " ")

TRADES = """
marine biologist, primary school teacher, bus driver, pastry chef, structural engineer, court interpreter, nurse,
software tester, beekeeper, librarian, violin maker, tax adviser, electrician, sheep farmer, sports journalist,
museum guide, chemist, carpenter, air traffic controller, speech therapist, wedding photographer, geologist, midwife,
network administrator, translator of crime novels, potter, firefighter, customs officer, statistician, gardener,
veterinary surgeon, tram conductor, physics student, history student, law student, union organiser, radio producer,
watchmaker, ferry captain, dietitian, social worker, piano tuner, archaeologist, bank clerk, forest ranger, dentist,
stage designer, crane operator, pharmacist, park architect, sign language teacher, meteorologist, locksmith, ice cream maker,
insurance analyst, choir leader, bicycle mechanic, palaeontologist, town planner, night porter, wine merchant
""".replace("\n", " ")

PLACES = """
a fishing village in Portugal, Nairobi, a suburb of Toronto, the Scottish Highlands, Kraków, rural Vermont, Chennai,
a mining town in Chile, Rotterdam, the outskirts of Lyon, Seoul, a valley in the Dolomites, Accra, Adelaide, a port on the
Black Sea, Montevideo, a university town in Ohio, Hanoi, the Faroe Islands, Marrakesh, a housing estate in Leeds,
the Kenyan coast, Osaka, a small town in Bavaria, Winnipeg, Tbilisi, an island off Croatia, Guadalajara, Tartu
""".replace("\n", " ")

PURSUITS = """
restores old radios, is learning to sail, keeps a weather diary, coaches a youth chess club, brews ginger beer,
is planning a long train journey, writes letters to the local newspaper, studies medieval maps, grows chillies on a balcony,
is saving for a first home, cares for an elderly parent, runs a book club, repairs furniture for neighbours,
collects dialect words, is training for a half-marathon, bakes bread for a street market, records birdsong,
teaches evening classes, is writing a family history, builds model bridges, volunteers at an animal shelter,
follows every space mission, cooks for a large family, is switching careers, plays in a brass band,
photographs abandoned railways, keeps three hives, argues about city planning, mends clothes rather than buying new ones,
is preparing for a citizenship test, designs board games, swims in the sea all year, sorts a late uncle's stamp collection,
is raising twins, reads contracts for fun, maps the springs of the region, is setting up a small online shop
""".replace("\n", " ")

AIMS = """
and wants to explain it to children, and has little time, and worries about the cost, and likes to see the numbers,
and distrusts easy answers, and wants to do it without a car, and has just moved there, and shares it with an online group,
and hopes to make a living of it, and prefers step-by-step instructions, and does it with a friend who cannot see,
and has to present it next week, and has never used a computer for it, and would like to do it with less waste
""".replace("\n", " ")


def parts(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _coprime_stride(space: int) -> int:
    """About the golden section of the space, so that neighbours lie far apart."""
    stride = int(space * 0.6180339887)
    while math.gcd(stride, space) != 1:
        stride += 1
    return stride


class Sentences:
    """All sentences that lists of parts give, one of each, in an order in which neighbours differ in every part."""

    def __init__(self, lists: tuple[tuple[str, ...], ...]) -> None:
        self._lists = lists
        self.space = math.prod(len(each) for each in lists)
        self._stride = _coprime_stride(self.space)

    def chosen(self, index: int) -> list[str]:
        """The parts of sentence number `index`, 0 <= index < space; different for each."""
        rest = index * self._stride % self.space
        found = []
        for each in self._lists:
            rest, digit = divmod(rest, len(each))
            found.append(each[digit])
        return found


SENTENCES = Sentences(tuple(parts(text) for text in (MANNERS, TRADES, PLACES, PURSUITS, AIMS)))
SPACE = SENTENCES.space


def persona(index: int) -> str:
    """Persona number `index`, 0 <= index < SPACE; different for each."""
    manner, trade, place, pursuit, aim = SENTENCES.chosen(index)
    article = "An" if manner[0] in "aeiou" else "A"
    return f"{article} {manner} {trade} from {place} who {pursuit} {aim}."


def table() -> pa.Table:
    """The built-in personas as a table with the column `persona`."""
    return pa.table({"persona": pa.array([persona(index) for index in range(COUNT)])})
