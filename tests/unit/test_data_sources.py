"""Kinds of sources, filters, mixtures and curricula, and what a mistake in each is told."""

import json
from collections import Counter
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from grpo.data import Dataset, load_data
from grpo.errors import DataError
from grpo.loading_bar import with_bar
from grpo.proportion import in_proportion
from grpo.recipe import Data
from grpo.streams import Curriculum, Mixed, question_key
from grpo.surroundings import surroundings
from rewards import make_verifier
from rewards.verdict import Question

COUNT = 24


def rows_of(name: str, count: int = COUNT) -> list[dict[str, Any]]:
    return [{"question": f"{name} {i} + 1?", "answer": str(i + 1), "level": i % 4} for i in range(count)]


@pytest.fixture
def sums(tmp_path: Path) -> str:
    return write(tmp_path / "sums.jsonl", rows_of("sum"))


@pytest.fixture
def others(tmp_path: Path) -> str:
    return write(tmp_path / "others.jsonl", rows_of("other"))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(train: object, *, seed: int = 0, **data: Any) -> Dataset:
    recipe = Data.model_validate({"train": train, "num_held_out": 4, **data})
    return load_data(recipe, seed=seed, check_reference=lambda reference: None)


def epoch(dataset: Dataset, number: int = 0) -> list[Any]:
    size = dataset.train.size
    assert size is not None
    return [dataset.train.problem(number * size + place)[0] for place in range(size)]


def ids(dataset: Dataset) -> set[str]:
    return {problem.problem_id for problem in (*dataset.train.listed, *dataset.held_out)}


# folders, functions and tasks


def test_a_folder_that_datasets_saved_is_read_of_one_split_and_of_several(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(rows_of("sum"))
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table.select(range(6))}).save_to_disk(tmp_path / "several")
    one = load({"path": str(tmp_path / "one")})
    assert ids(one) == {f"one/train/{i}" for i in range(COUNT)}
    assert one.sources[0].origin["fingerprint"]
    several = load({"path": str(tmp_path / "several"), "split": "test"}, num_held_out=2)
    assert ids(several) == {f"several/test/{i}" for i in range(6)}
    with pytest.raises(DataError, match=r"data\.train\.split = 'tset': .* holds train, test\. Set .* to test"):
        load({"path": str(tmp_path / "several"), "split": "tset"})


FUNCTIONS = """\
import json

def sums(count=12, name="sum"):
    print("loading")
    for i in range(count):
        yield {"question": f"{name} {i}?", "answer": i}

def broken():
    yield {"question": "1?", "answer": "1"}
    json.loads("{")

def no_rows():
    return 3

def no_mappings():
    return ["a"]
"""


@pytest.fixture
def functions(tmp_path: Path) -> str:
    (tmp_path / "my_rows.py").write_text(FUNCTIONS)
    return str(tmp_path / "my_rows.py")


def test_a_function_gives_the_rows_and_its_text_is_part_of_the_fingerprint(
    functions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load({"path": f"{functions}:sums", "args": {"count": 9}})
    assert ids(dataset) == {f"sums/{i}" for i in range(9)}
    assert capsys.readouterr() == ("", "loading\n"), "so that --json stays one object"
    before = surroundings(dataset)
    Path(functions).write_text(FUNCTIONS + "# a comment\n")
    after = surroundings(load({"path": f"{functions}:sums", "args": {"count": 9}}))
    assert {name for name in before if before[name] != after[name]} == {"data.train source_sha256"}


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("sms", {}, "there is no function 'sms'. Did you mean 'sums'?"),
        ("broken", {}, "it raised JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2"),
        ("broken", {}, "my_rows.py, line 10). Mend the function"),
        ("no_rows", {}, "no_rows returned a value of type int, not rows. Return a list of mappings"),
        ("no_mappings", {}, "its row 0 is of type str, not a mapping"),
        ("sums", {"cuont": 3}, "data.train.args = {'cuont': 3}: sums(count=12, name='sum') cannot be called"),
    ],
)
def test_what_a_function_does_wrong_is_named(functions: str, name: str, args: dict[str, int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load({"path": f"{functions}:{name}", "args": args})
    assert message in str(caught.value)


@pytest.mark.usefixtures("functions")
def test_a_function_that_is_not_there_or_cannot_be_imported_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*my_row\.py'\. Did you mean '.*my_rows\.py'"):
        load({"path": f"{tmp_path}/my_row.py:sums"})
    (tmp_path / "half.py").write_text("x = 1\ndef rows(:\n")
    with pytest.raises(DataError, match=r"importing it raised SyntaxError: .*half\.py, line 2\)"):
        load({"path": f"{tmp_path}/half.py:rows"})
    with pytest.raises(DataError, match="there is no module 'no_such_module', neither"):
        load({"path": "no_such_module:rows"})


def test_a_task_of_reasoning_gym_makes_problems_that_its_own_reward_scores() -> None:
    pytest.importorskip("reasoning_gym")
    source = {"path": "reasoning-gym/spell_backward", "args": {"max_word_len": 5}}
    dataset = load(source, num_held_out=16)
    train = [dataset.train.problem(ordinal)[0] for ordinal in range(100)]
    assert train == [load(source, num_held_out=16).train.problem(ordinal)[0] for ordinal in range(100)]
    assert train[70] != load(source, num_held_out=16, seed=1).train.problem(70)[0]
    assert dataset.held_out == load(source, num_held_out=16, seed=1).held_out
    held_out = {question_key(problem.question) for problem in dataset.held_out}
    assert len(held_out) == 16
    assert held_out.isdisjoint(question_key(problem.question) for problem in train)
    assert surroundings(dataset)["data.train reasoning-gym"].startswith("0.1.")
    problem, verifier = train[0], make_verifier("reasoning_gym")
    try:
        question = Question(text=problem.question, reference=problem.reference, columns=problem.columns)
        right, wrong = (
            verifier.verify(f"<answer>{text}</answer>", question).score for text in (problem.reference, "no")
        )
    finally:
        verifier.close()
    assert right == 1.0
    assert wrong is not None
    assert wrong < 1.0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "reasoning-gym/spell_backwards"}, "Did you mean 'reasoning-gym/spell_backward'?"),
        (
            {"path": "reasoning-gym/spell_backward", "args": {"max_word_length": 5}},
            "data.train.args.max_word_length = 5: task 'spell_backward' takes",
        ),
        ({"path": "reasoning-gym/spell_backward", "args": {"max_word_len": 1}}, "refuses them: "),
    ],
)
def test_what_reasoning_gym_does_not_have_is_named(source: dict[str, object], message: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(DataError) as caught:
        load(source)
    assert message in str(caught.value)


# columns


def test_a_conversation_is_its_question_under_the_system_message(tmp_path: Path) -> None:
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}
    gone_on = [user, {"role": "assistant", "content": "2"}, user]
    rows = [{"prompt": turns, "reward_model": {"ground_truth": "2"}} for turns in ([user], [system, user], gone_on)]
    file = tmp_path / "chats.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    source = {"path": str(file), "question": "prompt", "reference": "reward_model.ground_truth"}
    dataset = load(source, num_held_out=1)
    problems = [*dataset.held_out, *dataset.train.listed]
    assert {problem.question for problem in problems} == {"1 + 1?", "Be brief.\n\n1 + 1?"}
    assert {problem.reference for problem in problems} == {"2"}
    assert dataset.excluded == (
        "chats/2: column 'prompt' is a conversation of user, assistant, user: one user message is needed, "
        "after system at most",
    )


# filters


def test_a_filter_leaves_rows_out_before_anything_else_and_counts_them(sums: str) -> None:
    dataset = load({"path": sums, "filter": "len(question) < 11 and level >= 2"}, num_held_out=1)
    assert {problem.columns["level"] for problem in (*dataset.train.listed, *dataset.held_out)} == {2, 3}
    assert ids(dataset) == {f"sums/{i}" for i in (2, 3, 6, 7)}
    assert (dataset.sources[0].num_rows, dataset.sources[0].num_filtered) == (COUNT, COUNT - 4)


def test_a_filter_on_a_generator_draws_anew() -> None:
    dataset = load({"path": "countdown", "filter": "target < 20 and len(nums) == 3"})
    drawn = [dataset.train.problem(ordinal)[0] for ordinal in range(40)]
    assert all(p.columns["target"] < 20 and len(p.columns["nums"]) == 3 for p in (*drawn, *dataset.held_out))
    assert len({problem.problem_id for problem in drawn}) == 40
    with pytest.raises(DataError, match=r"data\.train\.path = 'countdown' has only 0 distinct|of 1000 problems drawn"):
        load({"path": "countdown", "filter": "target < 0"})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("len(question) <", "not an expression (invalid syntax). Write a comparison of columns"),
        ("import os", "not an expression (invalid syntax"),
        ("levle > 2", "there is no column 'levle'; there are question, answer, level. Did you mean 'level'?"),
        ("False and levle > 2", "there is no column 'levle'"),
        ("level", "of row sums/0 it is 0, neither true nor false. Write a comparison"),
        ("answer > 2", "row sums/0 cannot be asked it: TypeError: '>' not supported"),
        ("question.__class__ == 1", "row sums/0 cannot be asked it: FeatureNotAvailable"),
        ("level > 7", "none of the 24 rows of"),
    ],
)
def test_a_filter_that_cannot_serve_is_named(sums: str, expression: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load({"path": sums, "filter": expression})
    assert str(caught.value).startswith(f"data.train.filter = {expression!r}: ")
    assert message in str(caught.value)


# mixtures


def test_a_mixture_has_its_proportions_in_every_stretch(sums: str, others: str) -> None:
    train = [{"path": sums, "weight": 3}, {"path": others, "weight": 1}, {"path": "arithmetic", "weight": 0.5}]
    dataset = load(train, num_held_out=9)
    assert isinstance(dataset.train, Mixed)
    assert dataset.train.size is None
    names = [dataset.train.problem(ordinal)[0].source for ordinal in range(450)]
    for start in (0, 17, 211):
        counts = Counter(names[start : start + 90])
        assert abs(counts["sums"] - 60) <= 2
        assert abs(counts["others"] - 20) <= 2
        assert abs(counts["arithmetic"] - 10) <= 2
    assert Counter(problem.source for problem in dataset.held_out) == {"sums": 6, "others": 2, "arithmetic": 1}


def test_a_mixture_is_by_random_access_what_it_is_in_order_and_each_source_keeps_its_epochs(
    sums: str, others: str
) -> None:
    train = [{"path": sums, "weight": 0.7}, {"path": others, "weight": 0.3}]
    straight = [load(train).train.problem(ordinal) for ordinal in range(300)]
    resumed = load(train).train
    assert [resumed.problem(ordinal) for ordinal in range(299, 150, -1)] == straight[299:150:-1]
    for name in ("sums", "others"):
        own = [(problem.problem_id, times) for problem, times in straight if problem.source == name]
        size = len({problem_id for problem_id, _ in own})
        assert len({problem_id for problem_id, _ in own[:size]}) == size
        assert [times for _, times in own] == [place // size for place in range(len(own))]
    assert [load(train, seed=1).train.problem(ordinal) for ordinal in range(300)] != straight


def test_two_sources_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "train.jsonl", rows_of(folder)) for folder in ("a", "b")]
    args = [{"min_numbers": count, "max_numbers": count} for count in (3, 5)]
    dataset = load([*({"path": path} for path in paths), *({"path": "arithmetic", "args": a} for a in args)])
    assert [record.name for record in dataset.sources] == ["train", "train-1", "arithmetic", "arithmetic-3"]
    drawn = [dataset.train.problem(ordinal)[0] for ordinal in range(80)]
    assert len({problem.problem_id for problem in drawn}) == 80
    assert {problem.problem_id.rpartition("/")[0] for problem in drawn} == {record.name for record in dataset.sources}


def test_no_source_asks_what_is_held_out_of_another(tmp_path: Path, sums: str) -> None:
    copy = write(tmp_path / "copy.jsonl", rows_of("sum"))
    dataset = load([{"path": sums}, {"path": copy}], num_held_out=8)
    held_out = {question_key(problem.question) for problem in dataset.held_out}
    assert len(held_out) == 8
    assert held_out.isdisjoint(question_key(problem.question) for problem in dataset.train.listed)
    assert [len(record.duplicates) for record in dataset.sources] == [4, 4]
    assert [record.num_train for record in dataset.sources] == [16, 16]


def test_held_out_problems_may_come_from_several_sources_of_their_own(sums: str, others: str) -> None:
    dataset = load({"path": "arithmetic"}, held_out=[{"path": sums}, {"path": others, "weight": 3}])
    assert Counter(problem.source for problem in dataset.held_out) == {"sums": 1, "others": 3}
    with pytest.raises(DataError, match=r"num_held_out = 40, of which 30 are its part,: data\.held_out\.1\.path"):
        load({"path": "arithmetic"}, held_out=[{"path": sums}, {"path": others, "weight": 3}], num_held_out=40)


@pytest.mark.parametrize(("total", "weights"), [(128, [1, 1, 1]), (7, [0.1, 0.2, 5]), (1, [1, 1])])
def test_parts_sum_to_the_whole_and_are_within_one_of_their_share(total: int, weights: list[float]) -> None:
    parts = in_proportion(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1


# curricula


def test_a_curriculum_ascends_in_every_epoch_with_ties_in_another_order(sums: str) -> None:
    dataset = load({"path": sums, "curriculum": "level"})
    assert isinstance(dataset.train, Curriculum)
    first, second = epoch(dataset, 0), epoch(dataset, 1)
    for problems in (first, second):
        levels = [problem.columns["level"] for problem in problems]
        assert levels == sorted(levels)
        assert len({problem.problem_id for problem in problems}) == COUNT - 4
    assert first != second
    assert epoch(load({"path": sums, "curriculum": "level"}), 1) == second


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"curriculum": "levle"}, r"has the columns question, answer, level\. Did you mean 'level'\?"),
        ({"curriculum": "question"}, r"of sums/\d+ it is 'sum \d+ \+ 1\?', not a number\. Name a column with a number"),
        (
            {"path": "arithmetic", "curriculum": "level"},
            r"problems without end, which have no order\. Set .*limit",
        ),
    ],
)
def test_a_curriculum_that_cannot_order_is_named(sums: str, source: Mapping[str, object], message: str) -> None:
    with pytest.raises(DataError, match=rf"^data\.train\.curriculum = '\w+': .*{message}"):
        load({"path": sums, **source})


# the bar


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_only_on_a_terminal_and_only_when_reading_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    shown, patient, plain = Terminal(), Terminal(), StringIO()
    assert list(with_bar(range(5), "reading sums", total=5, after_s=0, file=shown)) == list(range(5))
    assert list(with_bar(range(5), "reading sums", total=5, after_s=600, file=patient)) == list(range(5))
    assert list(with_bar(range(5), "reading sums", total=5, after_s=0, file=plain)) == list(range(5))
    assert "reading sums" in shown.getvalue()
    assert "reading sums" not in patient.getvalue()
    assert plain.getvalue() == ""
