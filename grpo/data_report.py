"""What ``grpo data`` says of a recipe's data: prompts as the engine will see them, lengths, and what was left out."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grpo.console import printable
from grpo.data import Dataset, SourceRecord, load_data
from grpo.datatypes import Prompt
from grpo.loading_bar import with_bar
from grpo.prompts import Prompts, Stop
from grpo.recipe import Recipe
from grpo.scoring import Scorer
from grpo.surroundings import record_of

NUM_PROMPTS = 10  # shown, from the start of the stream
NUM_NAMED = 20  # rows that a list in the text names; the JSON has them all
OF_A_STREAM = 1000  # problems of a stream without end whose lengths are counted
NUM_BINS = 12
WIDTH = 80  # columns


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """A recipe's data, measured.

    ``shown`` are the first prompts of the training stream, each with the text of its tokens and the tokens' pieces;
    ``lengths`` (tokens) are those of every problem that can be listed, held-out ones too, and of the first
    ``OF_A_STREAM`` where there is no end.
    """

    recipe: Recipe
    dataset: Dataset
    shown: tuple[tuple[Prompt, str, tuple[str, ...]], ...]
    lengths: tuple[int, ...]
    too_long: tuple[str, ...]  # problem ids
    stops: tuple[Stop, ...]

    @property
    def refusals(self) -> list[str]:
        """Why a run by this recipe would not start; empty where it would."""
        found = []
        if self.too_long:
            found.append(
                f"{len(self.too_long)} prompts are longer than rollout.max_prompt_length = "
                f"{self.recipe.rollout.max_prompt_length}, first {self.too_long[0]}. Raise it to "
                f"{max(self.lengths)}, or leave them out with a filter"
            )
        if self.dataset.num_excluded and self.recipe.data.on_bad_reference == "fail":
            found.append(
                f"data.on_bad_reference = 'fail' and {self.dataset.num_excluded} rows cannot be used. "
                "Mend the rows, or set it to 'exclude'"
            )
        return found

    def text(self) -> str:
        """For people, most of it 80 columns wide; prompts are shown whole."""
        sections = {
            f"the first {len(self.shown)} prompts": self._prompts(),
            "tokens that end an answer": (f"{stop.token_id}:{stop.text!r} {stop.why}" for stop in self.stops),
            "prompt lengths": self._histogram(),
            "sources": itertools.chain.from_iterable(map(_source_lines, self.dataset.sources)),
            "rows that cannot be used": _named([row for record in self.dataset.sources for row in record.rejected]),
            "training rows that ask a held-out question": _named(
                [row for record in self.dataset.sources for row in record.duplicates]
            ),
            "to mend": iter(self.refusals),
        }
        parts = [(title, list(lines)) for title, lines in sections.items()]
        return "\n\n".join(f"# {title}\n" + "\n".join(lines) for title, lines in parts if lines)

    def to_json(self) -> dict[str, Any]:
        """The same for programs, with every row that was left out."""
        return {
            "prompts": [
                {
                    "problem_id": prompt.problem.problem_id,
                    "reference": prompt.problem.reference,
                    "text": text,
                    "token_ids": list(prompt.token_ids),
                    "pieces": list(pieces),
                }
                for prompt, text, pieces in self.shown
            ],
            "prompt_lengths": {
                "num_prompts": len(self.lengths),
                "min": min(self.lengths),
                "mean": sum(self.lengths) / len(self.lengths),
                "max": max(self.lengths),
                "max_prompt_length": self.recipe.rollout.max_prompt_length,
                "too_long": list(self.too_long),
                "bins": [{"from": low, "to": high, "count": count} for low, high, count in bins(self.lengths)],
            },
            "stops": [stop._asdict() for stop in self.stops],
            "sources": [
                record_of(record) | {"rejected": list(record.rejected), "duplicates": list(record.duplicates)}
                for record in self.dataset.sources
            ],
            "refusals": self.refusals,
        }

    def _prompts(self) -> Iterator[str]:
        for place, (prompt, text, pieces) in enumerate(self.shown):
            problem = prompt.problem
            yield f"{'' if place == 0 else chr(10)}## {problem.problem_id}: {_count(len(pieces), 'token')}"
            yield printable(text, "utf-8")
            yield "-- tokens: " + " ".join(
                f"{token_id}:{piece!r}" for token_id, piece in zip(prompt.token_ids, pieces, strict=True)
            )
            yield f"-- reference: {problem.reference!r}"

    def _histogram(self) -> Iterator[str]:
        found = list(bins(self.lengths))
        limit, most = self.recipe.rollout.max_prompt_length, max(count for _, _, count in found)
        label = len(f"{found[-1][1]:,}")
        for low, high, count in found:
            mark = "  > max_prompt_length" if high > limit else ""
            room = WIDTH - 2 * label - 12 - len(mark) - len(f"{count:,}")
            bar = "#" * max(round(room * count / most), 1 if count else 0)
            yield f"{low:>{label},} to {high:>{label},} | {bar} {count:,}{mark}"
        yield (
            f"of {_count(len(self.lengths), 'prompt')}: {min(self.lengths):,} to {max(self.lengths):,} tokens; "
            f"{len(self.too_long):,} above rollout.max_prompt_length = {limit:,}"
        )


def report_of(recipe: Recipe) -> DataReport:
    """Load a recipe's data as a run would, and measure it; needs the model's tokenizer and no weights.

    Raises:
        UserError: as a run by this recipe would at its start, for anything but what ``refusals`` tells.
    """
    unbounded = recipe.rollout.model_copy(update={"max_prompt_length": sys.maxsize})  # too long is told, not raised
    prompts = Prompts.of(recipe.model_copy(update={"rollout": unbounded}))
    scorer = Scorer(recipe.rewards, recipe.scoring, seed=recipe.seed)
    try:
        lenient = recipe.data.model_copy(update={"on_bad_reference": "exclude"})
        dataset = load_data(lenient, seed=recipe.seed, check_reference=scorer.check_reference)
    finally:
        scorer.close()
    num_shown = min(NUM_PROMPTS, dataset.train.size or NUM_PROMPTS)
    first = [prompts.encode(dataset.train.problem(n)[0], ordinal=n, attempt=0) for n in range(num_shown)]
    num_drawn = 0 if dataset.train.size is not None else OF_A_STREAM
    drawn = [dataset.train.problem(ordinal)[0] for ordinal in range(num_drawn)]
    problems = {problem.problem_id: problem for problem in (*dataset.train.listed, *drawn)}.values()
    measured = [
        prompts.encode(problem, ordinal=0, attempt=0)
        for problem in with_bar([*problems, *dataset.held_out], "rendering prompts")
    ]
    limit = recipe.rollout.max_prompt_length
    return DataReport(
        recipe=recipe,
        dataset=dataset,
        shown=tuple(
            (prompt, prompts.decode(prompt.token_ids), tuple(prompts.pieces(prompt.token_ids))) for prompt in first
        ),
        lengths=tuple(len(prompt.token_ids) for prompt in measured),
        stops=tuple(prompts.stops()),
        too_long=tuple(prompt.problem.problem_id for prompt in measured if len(prompt.token_ids) > limit),
    )


def bins(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Ranges of lengths, both ends within, and how many are in each: at most ``NUM_BINS`` of one width.

    >>> list(bins([3, 3, 4]))
    [(3, 3, 2), (4, 4, 1)]
    """
    low, high = min(lengths), max(lengths)
    width = -(-(high - low + 1) // NUM_BINS)
    for start in range(low, high + 1, width):
        end = start + width - 1
        yield start, end, sum(start <= length <= end for length in lengths)


def _source_lines(record: SourceRecord) -> Iterator[str]:
    read = "without end" if record.num_rows is None else f"{record.num_rows:,} rows read"
    filtered = f", {record.num_filtered:,} filtered out" if record.num_filtered else ""
    yield f"{record.key} = {record.source.path}: {read}{filtered}"
    train = "problems without end" if record.num_train is None else _count(record.num_train, "problem")
    yield f"    to train on: {train}; held out: {record.num_held_out:,}"
    yield f"    cannot be used: {len(record.rejected):,}; ask a held-out question: {len(record.duplicates):,}"
    if record.source.filter is not None and record.num_rows is None:
        yield f"    filter: {record.source.filter}; a problem that does not pass is drawn anew"


def _named(rows: Sequence[str]) -> Iterator[str]:
    yield from (printable(row, "utf-8") for row in rows[:NUM_NAMED])
    if len(rows) > NUM_NAMED:
        yield f"and {len(rows) - NUM_NAMED:,} more (--json has them all)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
