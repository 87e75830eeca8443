"""For tiny_numbers.yaml."""

from datasets import Dataset


def only(held_out: Dataset) -> Dataset:
    """The requests whose answer is one of the two numbers that they name."""

    def choices(row: dict[str, str]) -> dict[str, object]:
        named = row["prompt"].split()[-2:]
        return {"choices": named, "label": named.index(row["reference"])}

    return held_out.filter(lambda row: "number" in row["prompt"]).map(choices)
