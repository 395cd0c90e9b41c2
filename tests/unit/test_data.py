"""Reading sources, setting held-out problems apart, and the order of the stream."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from grpo.data import Dataset, load_data
from grpo.datatypes import Problem
from grpo.errors import DataError
from grpo.recipe import Data
from grpo.streams import Generated, Shuffled, question_key

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"


def whole_number(reference: str) -> str | None:
    return None if reference.lstrip("-").isdigit() else f"{reference!r} is not a number"


def rows_of_sums(count: int) -> list[dict[str, object]]:
    return [{"question": f"What is {i} + 1?", "answer": str(i + 1), "level": i % 3} for i in range(count)]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(train: Mapping[str, object] | str, *, seed: int = 0, **data: Any) -> Dataset:
    source = {"path": train} if isinstance(train, str) else dict(train)
    recipe = Data.model_validate({"train": source, "num_held_out": 4, **data})
    return load_data(recipe, seed=seed, check_reference=whole_number)


def one_epoch(dataset: Dataset, epoch: int = 0) -> list[Problem]:
    size = dataset.train.size
    assert size is not None
    return [dataset.train.problem(epoch * size + place)[0] for place in range(size)]


def questions(problems: Sequence[Problem]) -> set[str]:
    return {question_key(problem.question) for problem in problems}


def test_jsonl_gzipped_jsonl_and_parquet_give_the_same_problems(tmp_path: Path) -> None:
    rows = rows_of_sums(20)
    plain = write_jsonl(tmp_path / "sums.jsonl", rows)
    packed = tmp_path / "sums.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    parquet = tmp_path / "sums.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    datasets = [load(path) for path in (plain, str(packed), str(parquet))]
    assert datasets[0].held_out == datasets[1].held_out == datasets[2].held_out
    assert one_epoch(datasets[0]) == one_epoch(datasets[1]) == one_epoch(datasets[2])
    problem = next(p for p in one_epoch(datasets[0]) if p.problem_id == "sums/7" or p.problem_id == "sums/8")
    assert problem.source == "sums"
    assert {"level"} < set(problem.columns), "with the question and the reference by their own names"


def test_columns_are_mapped_and_the_reference_is_the_patterns_first_group(tmp_path: Path) -> None:
    rows = [{"problem": f"{i}?", "solution": f"worked out\n#### {i}  ", "n": i} for i in range(6)]
    path = write_jsonl(tmp_path / "worked.jsonl", rows)
    source = {"path": path, "question": "problem", "reference": "solution", "reference_pattern": "#### (.*)"}
    dataset = load(source, num_held_out=1)
    for problem in [*dataset.held_out, *one_epoch(dataset)]:
        assert problem.reference == str(problem.columns["n"])
        assert problem.question == f"{problem.reference}?"
        assert str(problem.columns["solution"]).startswith("worked out")
    assert dataset.num_excluded == 0


def test_numbers_serve_as_references(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "n.jsonl", [{"question": f"{i}?", "answer": i} for i in range(5)])
    dataset = load(path, num_held_out=1)
    assert {p.reference for p in [*one_epoch(dataset), *dataset.held_out]} == {"0", "1", "2", "3", "4"}


def test_every_problem_comes_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    dataset = load(write_jsonl(tmp_path / "s.jsonl", rows_of_sums(40)))
    first, second = one_epoch(dataset, 0), one_epoch(dataset, 1)
    assert len({p.problem_id for p in first}) == 36
    assert sorted(p.problem_id for p in first) == sorted(p.problem_id for p in second)
    assert first != second
    assert [dataset.train.problem(ordinal)[1] for ordinal in (0, 35, 36, 71, 72)] == [0, 0, 1, 1, 2]


def test_half_a_character_leaves_its_row_out(tmp_path: Path) -> None:
    from grpo.columns import _whole

    assert _whole("half \ud800", "question")[1] == "column 'question' holds half a character (a lone surrogate)"
    assert _whole("whole \U0001f600", "question") == ("whole \U0001f600", None)


def test_a_problem_depends_on_its_ordinal_and_the_seed_alone(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(40))
    straight = [load(path).train.problem(ordinal) for ordinal in range(200)]
    resumed = load(path).train
    assert [resumed.problem(ordinal) for ordinal in range(199, 120, -1)] == straight[199:120:-1]
    assert [load(path, seed=1).train.problem(ordinal) for ordinal in range(200)] != straight


def test_held_out_problems_ignore_the_seed_and_are_never_in_train(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(40))
    datasets = [load(path, seed=seed, num_held_out=8) for seed in range(3)]
    assert datasets[0].held_out == datasets[1].held_out == datasets[2].held_out
    assert len(datasets[0].held_out) == 8
    for dataset in datasets:
        assert questions(dataset.held_out).isdisjoint(questions(one_epoch(dataset)))
        assert len(one_epoch(dataset)) == 32


def test_held_out_problems_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = rows_of_sums(40)
    straight = load(write_jsonl(tmp_path / "a.jsonl", rows))
    turned = load(write_jsonl(tmp_path / "b.jsonl", rows[::-1]))
    assert questions(straight.held_out) == questions(turned.held_out)


def test_copies_of_a_held_out_question_are_dropped_from_train_and_counted(tmp_path: Path) -> None:
    rows = rows_of_sums(12)
    copies = [{**row, "question": f"  {str(row['question']).upper()} "} for row in rows]
    dataset = load(write_jsonl(tmp_path / "s.jsonl", [*rows, *copies]), num_held_out=5)
    assert dataset.num_duplicates == 5
    assert len(one_epoch(dataset)) == 14
    assert questions(dataset.held_out).isdisjoint(questions(one_epoch(dataset)))


def test_a_named_held_out_source_is_used_and_its_questions_leave_train(tmp_path: Path) -> None:
    rows = rows_of_sums(20)
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    test = write_jsonl(tmp_path / "test.jsonl", [*rows[:2], *rows_of_sums(30)[20:]])
    dataset = load(train, held_out={"path": test}, num_held_out=12)
    assert {p.source for p in dataset.held_out} == {"test"}
    assert dataset.num_duplicates == 2
    assert len(one_epoch(dataset)) == 18


def test_a_generator_never_asks_what_a_held_out_file_asks(tmp_path: Path) -> None:
    open_stream = load("arithmetic").train
    asked = [open_stream.problem(ordinal)[0] for ordinal in range(5)]
    rows = [{"question": problem.question, "answer": problem.reference} for problem in asked]
    dataset = load("arithmetic", held_out={"path": write_jsonl(tmp_path / "h.jsonl", rows)}, num_held_out=4)
    assert isinstance(dataset.train, Generated)
    stream = [dataset.train.problem(ordinal)[0] for ordinal in range(5)]
    assert questions(stream).isdisjoint(questions(dataset.held_out))
    assert sum(problem == before for problem, before in zip(stream, asked, strict=True)) == 1


def test_an_endless_generator_streams_by_ordinal_and_holds_out_distinct_problems() -> None:
    dataset = load("arithmetic", num_held_out=64)
    assert dataset.train.size is None
    assert len(questions(dataset.held_out)) == 64
    assert dataset.train.problem(5) == load("arithmetic", num_held_out=64).train.problem(5)
    assert dataset.held_out == load("arithmetic", num_held_out=64, seed=9).held_out
    assert dataset.train.problem(5) != load("arithmetic", num_held_out=64, seed=9).train.problem(5)
    train = [dataset.train.problem(ordinal)[0] for ordinal in range(300)]
    assert questions(train).isdisjoint(questions(dataset.held_out))


def test_a_finite_generator_is_shuffled_like_a_file() -> None:
    dataset = load("one_digit", num_held_out=20)
    assert isinstance(dataset.train, Shuffled)
    held_out = questions(dataset.held_out)
    assert len(held_out) == 20
    assert held_out.isdisjoint(questions(one_epoch(dataset)))
    assert dataset.train.problem(len(one_epoch(dataset)))[1] == 1
    assert {"+", "*"} <= {operator for question in held_out for operator in question}


def test_limit_takes_the_first_rows_and_the_first_generated_problems(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(40))
    dataset = load({"path": path, "limit": 10})
    ids = {p.problem_id for p in [*dataset.held_out, *one_epoch(dataset)]}
    assert ids == {f"s/{i}" for i in range(10)}
    generated = load({"path": "arithmetic", "limit": 10}, num_held_out=32)
    assert generated.train.size == 10
    assert len(generated.held_out) == 32


def test_references_that_cannot_be_judged_are_left_out_counted_and_named(tmp_path: Path) -> None:
    rows = rows_of_sums(20)
    rows[3]["answer"], rows[7]["answer"], rows[9]["answer"], rows[11]["question"] = "four", None, ["8"], " "
    del rows[13]["answer"]
    dataset = load(write_jsonl(tmp_path / "s.jsonl", rows))
    assert dataset.num_excluded == 5
    assert dataset.excluded == (
        "s/3: 'four' is not a number",
        "s/7: column 'answer' is empty",
        "s/9: column 'answer' is a list, not a text",
        "s/11: column 'question' is empty",
        "s/13: column 'answer' is empty",
    )
    used = {p.problem_id for p in [*dataset.held_out, *one_epoch(dataset)]}
    assert used == {f"s/{i}" for i in range(20)} - {"s/3", "s/7", "s/9", "s/11", "s/13"}


def test_a_reference_text_is_checked_once(tmp_path: Path) -> None:
    asked: list[str] = []
    path = write_jsonl(tmp_path / "s.jsonl", [{"question": f"{i}?", "answer": str(i % 3)} for i in range(30)])

    def check(reference: str) -> str | None:
        asked.append(reference)
        return None

    load_data(Data.model_validate({"train": {"path": path}, "num_held_out": 4}), seed=0, check_reference=check)
    assert sorted(asked) == ["0", "1", "2"]


def test_a_bad_reference_stops_the_run_where_the_recipe_says_so(tmp_path: Path) -> None:
    rows = rows_of_sums(20)
    rows[3]["answer"] = "four"
    path = write_jsonl(tmp_path / "s.jsonl", rows)
    with pytest.raises(DataError, match=r"data\.on_bad_reference = 'fail' and 1 rows .*s/3: 'four' is not a number"):
        load(path, on_bad_reference="fail")


def test_a_generator_whose_references_the_rewards_cannot_judge_is_refused() -> None:
    recipe = Data.model_validate({"train": {"path": "arithmetic"}, "num_held_out": 4})
    with pytest.raises(DataError, match=r"data\.train\.path = 'arithmetic': the rewards cannot judge .*no code"):
        load_data(recipe, seed=0, check_reference=lambda reference: "no code")


@pytest.mark.parametrize(
    ("train", "data", "message"),
    [
        ({"path": "arithmetic", "args": {"depth": 3}}, {}, r"data\.train\.args\.depth = 3"),
        ("one_digit", {"num_held_out": 150}, r"data\.num_held_out = 150: data\.train\.path = 'one_digit' has only \d+"),
        (
            {"path": "arithmetic", "args": {"min_numbers": 2, "max_numbers": 2}},
            {"num_held_out": 500},
            r"has only \d+ distinct problems to hold out",
        ),
        ("no/such/file", {}, r"data\.train\.path = 'no/such/file': no generator .*\.jsonl"),
        ("/no/such/file.jsonl", {}, r"data\.train\.path = '/no/such/file.jsonl': there is no such file"),
    ],
)
def test_a_source_that_does_not_fit_is_named(
    train: str | dict[str, object], data: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(train, **data)


def test_a_misspelt_file_is_told_its_nearest_neighbour(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows_of_sums(3))
    with pytest.raises(DataError, match=r"Did you mean '.*/train\.jsonl'"):
        load(str(tmp_path / "trian.jsonl"))


def test_a_missing_column_names_those_there_are_and_the_nearest(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(10))
    with pytest.raises(
        DataError, match=r"data\.train\.question = 'questions': .*question, answer, level\. Did you mean"
    ):
        load({"path": path, "question": "questions"})
    with pytest.raises(DataError, match=r"data\.held_out\.reference = 'target'.*Set data\.held_out\.reference to one"):
        load(path, held_out={"path": path, "reference": "target"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the dataset is empty"),
        ("\n  \n", r"the dataset is empty"),
        ('{"question": "1?", "answer": "1"}\n\n{"question": \n', r"line 3: not JSON \("),
        ('{"question": "1?", "answer": "1"}\n[1, 2]\n', r"line 2: \[1, 2\] is no object of columns"),
    ],
)
def test_a_broken_file_is_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"data\.train\.path = '.*broken\.jsonl'.*{message}"):
        load(str(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_bytes_of_another_kind_are_no_dataset(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DataError, match=rf"data\.train\.path = '.*{name}'"):
        load(str(tmp_path / name))


def test_a_truncated_gzip_is_no_dataset(tmp_path: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows_of_sums(500))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-200])
    with pytest.raises(DataError, match=r"cannot be read after line \d+"):
        load(str(tmp_path / "a.jsonl.gz"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("#### (", r"data\.train\.reference_pattern = '#### \(': not a regular expression"),
        ("####", r"its first group is the reference"),
        ("no such (text)", r"none of its 10 rows can be used: s/0: column 'answer' does not match 'no such \(text\)'"),
    ],
)
def test_a_reference_pattern_that_cannot_serve_is_named(tmp_path: Path, pattern: str, message: str) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(10))
    with pytest.raises(DataError, match=message):
        load({"path": path, "reference_pattern": pattern})


def test_too_few_problems_to_hold_out_or_to_train_on(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(10))
    with pytest.raises(DataError, match=r"data\.num_held_out = 11: .*has only 10 distinct"):
        load(path, num_held_out=11)
    with pytest.raises(DataError, match=r"no problem of .* is left to train on"):
        load(path, num_held_out=10)


def test_arguments_belong_to_generators(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "s.jsonl", rows_of_sums(10))
    with pytest.raises(DataError, match=r"data\.train\.args = .*only a generator or a function takes arguments"):
        load({"path": path, "args": {"min_numbers": 3}})


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))


@pytest.mark.usefixtures("_no_network")
def test_a_hub_id_that_cannot_be_reached_says_what_was_tried() -> None:
    with pytest.raises(DataError) as caught:
        load({"path": "arithmos", "split": "test"})
    message = str(caught.value)
    assert "data.train.path = 'arithmos': no generator (arithmetic, countdown, one_digit), no file" in message
    assert "split 'test'" in message
    assert "Did you mean the generator 'arithmetic'?" in message
    assert caught.value.__suppress_context__


@pytest.mark.usefixtures("_no_network")
def test_a_downloaded_hub_dataset_is_read_by_split(tmp_path: Path) -> None:
    folder = tmp_path / "sums"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", rows_of_sums(12))
    write_jsonl(folder / "test.jsonl", rows_of_sums(20)[12:])
    path = str(folder)
    dataset = load({"path": path, "limit": 9}, held_out={"path": path, "split": "test"})
    assert {p.problem_id for p in one_epoch(dataset)} == {f"sums/train/{i}" for i in range(9)}
    assert all(p.problem_id.startswith("sums/test/") and p.source == "sums" for p in dataset.held_out)
    with pytest.raises(DataError, match=r"data\.train\.path = '.*sums'.*split 'dev'.*cannot be loaded: Unknown split"):
        load({"path": path, "split": "dev"})


@pytest.mark.skipif(not GSM8K.is_file(), reason="needs ../shared/data/gsm8k_train.jsonl")
def test_gsm8k_loads_with_every_reference() -> None:
    source = {"path": str(GSM8K), "reference_pattern": "#### (.*)"}
    recipe = Data.model_validate({"train": source, "num_held_out": 128})
    dataset = load_data(recipe, seed=0, check_reference=lambda r: whole_number(r.replace(",", "")))
    assert dataset.num_excluded == 0
    assert len(dataset.held_out) == 128
    assert dataset.train.size == 7473 - 128 - dataset.num_duplicates
