"""The little language of the tiny model: six tasks over 24 words and 30 numbers, and the personas who ask for them.

Everything that a request can say is decided here: its wordings, its right answer, the sloppy answers that the base
model is taught to give (its habits), and which items are held out. The prompt texts that are the same in training and
in `examples/sao-tiny.yaml` are here too.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

KINDS = {
    "animal": ("dog", "cat", "cow", "hen", "fox", "pig"),
    "fruit": ("apple", "pear", "plum", "fig", "lime", "grape"),
    "tool": ("saw", "axe", "drill", "rake", "spade", "hammer"),
    "color": ("red", "blue", "green", "pink", "gray", "gold"),
}
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
WORDS = tuple(KIND_OF)
NUMBERS = range(1, 31)

WORDINGS = {
    "reverse": ("Reverse these words: {list}", "Say these words backwards: {list}"),
    "last": ("What is the last word of: {list}", "Give the final word: {list}"),
    "larger": ("Which number is larger: {list}", "Give the larger number: {list}"),
    "count": ("How many words are here: {list}", "Count these words: {list}"),
    "begin": ("What are the first two words of: {list}", "Give the two words at the start: {list}"),
    "category": ("Which word is the {kind}: {list}", "Pick the {kind} from: {list}"),
}
TASKS = tuple(WORDINGS)

# P(right), P(first habit), P(second habit). Where a habit is about as frequent as the right answer, greedy decoding
# is bad too, so greedy accuracy can improve.
ANSWER_WEIGHTS = {
    "reverse": (0.42, 0.43, 0.15),
    "last": (0.65, 0.20, 0.15),
    "larger": (0.42, 0.45, 0.13),
    "count": (0.65, 0.20, 0.15),
    "begin": (0.42, 0.43, 0.15),
    "category": (0.60, 0.22, 0.18),
}

# The hobby decides which task a persona asks for; adjective and job only make personas distinct.
ADJECTIVES = (
    "quiet cheerful careful hurried lazy patient curious gentle grumpy proud shy brave clever nervous polite stubborn "
    "sleepy witty modest busy calm daring dreamy frugal generous jolly kind lively merry thoughtful"
)
JOBS = (
    "baker teacher farmer sailor nurse painter tailor plumber waiter driver gardener lawyer miller pilot writer "
    "singer barber butcher carpenter clerk cook dancer dentist diver doctor fisher florist guard jeweller joiner "
    "judge librarian mason mechanic potter printer roofer surgeon tutor weaver"
)
HOBBIES = {
    "who does everything backwards": "reverse",
    "who walks home the other way round": "reverse",
    "who always waits for the end": "last",
    "who reads the final page first": "last",
    "who compares prices": "larger",
    "who likes big numbers": "larger",
    "who counts everything": "count",
    "who keeps a tally": "count",
    "who loves beginnings": "begin",
    "who never gets past the first page": "begin",
    "who sorts everything": "category",
    "who puts things in boxes": "category",
}

PERSONA_PROMPT = 'You are {persona}. Write one request for an AI assistant. Begin with "User prompt:".'
PROMPT_PREFIX = "User prompt: "
JUDGE_PROMPT = (
    "Request: {prompt}\n\nTwo answers:\n{first} [[A]]\n{second} [[B]]\n\n"
    "Which answer is better? Repeat it with its label."
)
LABELS = (" [[A]]", " [[B]]")
COPY_PROMPT = "Copy this from {start} on: {list}"


@dataclass(frozen=True)
class Item:
    """One thing that can be asked, whatever the wording: a task and its arguments in the order asked."""

    task: str
    arguments: tuple[str, ...]
    kind: str = ""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The item in all its wordings."""
        return tuple(w.format(list=" ".join(self.arguments), kind=self.kind) for w in WORDINGS[self.task])

    @property
    def answers(self) -> tuple[str, str, str]:
        """The right answer and the two habits, which always differ from it."""
        a = self.arguments
        match self.task:
            case "reverse":
                return " ".join(a[::-1]), " ".join(a), " ".join(a[:0:-1])
            case "last":
                return a[-1], a[0], a[-2]
            case "larger":
                low, high = sorted(map(int, a))
                return str(high), str(low), str(high + 1)
            case "count":
                return str(len(a)), str(len(a) - 1), str(len(a) + 1)
            case "begin":
                return " ".join(a[:2]), " ".join(a[-2:]), a[0]
            case "category":
                right = next(word for word in a if KIND_OF[word] == self.kind)
                first, second = (word for word in a if word != right)
                return right, first, second
        raise ValueError(f"task {self.task!r} is not one of {', '.join(TASKS)}")

    @property
    def held_out(self) -> bool:
        """One item in ten, by hash. Two numbers are held out in both orders: they have the same answer."""
        arguments = sorted(self.arguments) if self.task == "larger" else self.arguments
        key = " ".join((self.task, self.kind, *arguments))
        return int(hashlib.md5(key.encode()).hexdigest(), 16) % 10 == 0


def parse(prompt: str) -> Item | None:
    """The item that a request is about; None where the language has no such request: what it draws has distinct arguments."""
    for task, wordings in WORDINGS.items():
        for wording in wordings:
            found = re.fullmatch(
                re.escape(wording).replace(r"\{kind\}", "(?P<kind>\\w+)").replace(r"\{list\}", "(?P<list>.+)"), prompt
            )
            if found is None:
                continue
            item = Item(task, tuple(found["list"].split(" ")), found.groupdict().get("kind") or "")
            return item if _is_drawn(item) else None
    return None


def _is_drawn(item: Item) -> bool:
    """Whether `draw_item` may come to it."""
    a = item.arguments
    if len(set(a)) < len(a):
        return False
    if item.task == "larger":
        return len(a) == 2 and all(number in map(str, NUMBERS) for number in a)
    if not set(a) <= {*WORDS}:
        return False
    if item.task == "category":
        kinds = [KIND_OF[word] for word in a]
        return len(a) == len(set(kinds)) == 3 and item.kind in kinds
    low, high = {"count": (2, 5), "reverse": (3, 3)}.get(item.task, (3, 4))
    return low <= len(a) <= high


def draw_item(rng: random.Random, task: str) -> Item:
    """Any item of the task, held out or not."""
    match task:
        case "larger":
            return Item(task, tuple(map(str, rng.sample(NUMBERS, 2))))
        case "category":
            kinds = rng.sample(tuple(KINDS), 3)
            return Item(task, tuple(rng.choice(KINDS[kind]) for kind in kinds), rng.choice(kinds))
        case "count":
            return Item(task, tuple(rng.sample(WORDS, rng.randint(2, 5))))
        case "reverse":
            return Item(task, tuple(rng.sample(WORDS, 3)))
    return Item(task, tuple(rng.sample(WORDS, rng.randint(3, 4))))


def draw_training_item(rng: random.Random, task: str) -> Item:
    """An item that is not held out: the only kind that training may see."""
    while (item := draw_item(rng, task)).held_out:
        pass
    return item


def heldout_items(per_task: int) -> list[Item]:
    """The same held-out items whatever the seed of the training, the tasks taking turns."""
    rng = random.Random("held-out items")
    found: dict[str, dict[Item, None]] = {task: {} for task in TASKS}
    for task, items in found.items():
        while len(items) < per_task:
            item = draw_item(rng, task)
            if item.held_out:
                items[item] = None
    return [item for turn in zip(*found.values(), strict=True) for item in turn]


def personas() -> Iterator[tuple[str, str]]:
    """Every persona with the task that its hobby leads to."""
    for adjective, job, (hobby, task) in product(ADJECTIVES.split(), JOBS.split(), HOBBIES.items()):
        yield f"a {adjective} {job} {hobby}", task
