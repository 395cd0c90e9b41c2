"""``grpo data`` on real files and a real tokenizer, from the recipe to the text and the JSON."""

import json
from pathlib import Path

from typer.testing import CliRunner

from grpo.cli import app
from grpo.data_report import report_of
from grpo.prompts import Prompts
from grpo.recipe import SHIPPED, load_recipe
from grpo.run_folder import RunFolder
from grpo.surroundings import data_record, surroundings

QUICKSTART = SHIPPED / "quickstart.yaml"


def rows(folder: Path, *changes: dict[str, object]) -> list[str]:
    """Overrides that name a file of ten rows with these laid over the first of them."""
    made: list[dict[str, object]] = [{"question": f"{i}+1", "answer": str(i + 1), "level": i} for i in range(10)]
    for row, change in zip(made, changes, strict=False):
        row.update(change)
    file = folder / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return [f"data.train.path={file}", "data.train.args={}", "data.num_held_out=2"]


def test_it_shows_the_tokens_that_a_run_would_send(tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART, [*rows(tmp_path), "data.train.filter=level >= 1"])
    report = report_of(recipe).to_json()
    prompts = Prompts(recipe.model, recipe.template, max_prompt_length=64)
    assert len(report["prompts"]) == 7
    for shown in report["prompts"]:
        assert "".join(shown["pieces"]) == shown["text"] == prompts.decode(shown["token_ids"])
        assert shown["text"].startswith("Q: ")
    lengths = report["prompt_lengths"]
    assert (lengths["num_prompts"], lengths["max_prompt_length"], lengths["too_long"]) == (9, 64, [])
    assert sum(part["count"] for part in lengths["bins"]) == 9
    (source,) = report["sources"]
    assert (source["num_rows"], source["num_filtered"], source["num_train"], source["num_held_out"]) == (10, 1, 7, 2)
    assert report["refusals"] == []


def test_the_text_names_what_was_left_out_and_fits_the_terminal(tmp_path: Path) -> None:
    overrides = rows(tmp_path, {"answer": "one"}, {"answer": None}, {"question": "7+1"})
    text = report_of(load_recipe(QUICKSTART, overrides)).text()
    assert "sums/0: 'one'" in text
    assert "sums/1: column 'answer' is empty" in text
    assert "data.train = " in text
    assert "cannot be used: 2; ask a held-out question:" in text
    histogram = text.partition("# prompt lengths\n")[2].partition("\n\n")[0].splitlines()
    assert all(len(line) <= 80 for line in histogram)
    assert histogram[-1].startswith("of 8 prompts: ")


def test_prompts_that_are_too_long_are_counted_and_end_with_2(tmp_path: Path) -> None:
    arguments = [str(QUICKSTART), *rows(tmp_path, {"question": "1+" * 40 + "1"}), "rollout.max_prompt_length=20"]
    done = CliRunner().invoke(app, ["data", *arguments])
    assert done.exit_code == 2
    assert "> max_prompt_length" in done.stdout
    assert "1 prompts are longer than rollout.max_prompt_length = 20, first sums/0" in done.stdout
    as_json = CliRunner().invoke(app, ["data", *arguments, "--json"])
    assert as_json.exit_code == 2
    assert json.loads(as_json.stdout)["prompt_lengths"]["too_long"] == ["sums/0"]


def test_a_row_that_cannot_be_used_ends_with_2_where_a_run_would_refuse_it(tmp_path: Path) -> None:
    arguments = [str(QUICKSTART), *rows(tmp_path, {"answer": "one"})]
    assert CliRunner().invoke(app, ["data", *arguments]).exit_code == 0
    done = CliRunner().invoke(app, ["data", *arguments, "data.on_bad_reference=fail"])
    assert done.exit_code == 2
    assert "data.on_bad_reference = 'fail' and 1 rows cannot be used" in done.stdout


def test_what_was_read_is_recorded_and_does_not_keep_an_unused_folder(tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART, rows(tmp_path))
    dataset = report_of(recipe).dataset
    folder = RunFolder(tmp_path / "run")
    folder.write_data(data_record(dataset, 7, surroundings(dataset)))
    record = json.loads((tmp_path / "run" / "data.json").read_text())
    assert record["seed"] == 7
    assert set(record["fingerprint_sha256"]) == {"data.train", "data.held_out"}
    assert len(record["sources"][0]["origin"]["sha256"]) == 64
    assert record["sources"][0]["num_rows"] == 10
    folder.remove_if_unused()
    assert not (tmp_path / "run").exists()
