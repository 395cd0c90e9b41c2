"""Every key has a sentence, and editors can check a recipe by the schema."""

from pathlib import Path

import jsonschema
import pytest

from grpo.recipe import SHIPPED, parse_yaml, recipe_keys
from grpo.recipe.describe import default_of, describe_keys, is_required, json_schema, keys_document

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
QUICKSTART = SHIPPED / "quickstart.yaml"


def quickstart() -> dict[str, object]:
    tree = parse_yaml(QUICKSTART.read_text(encoding="utf-8"), "quickstart")
    assert isinstance(tree, dict)
    return tree


def test_every_key_is_described_by_a_type_a_default_and_a_sentence() -> None:
    described = describe_keys()
    assert [key.key for key in described] == list(recipe_keys())
    assert [key.key for key in described if not (key.type and key.default and key.sentence)] == []


def test_bounds_choices_and_defaults_are_in_words() -> None:
    by_key = {key.key: key for key in describe_keys()}
    assert by_key["rollout.top_p"].type == "number, above 0, at most 1"
    assert by_key["algorithm.kl_estimator"].type == "k1 | k2 | k3"
    assert by_key["algorithm.delta"].type == "number, above 1"
    assert by_key["learner.adam_beta1"].type == "number, at least 0, below 1"
    assert (by_key["model"].default, by_key["rollout.temperature"].default) == ("required", "1.0")
    assert (is_required("model"), default_of("rollout.temperature")) == (True, 1.0)


def test_the_schema_is_a_valid_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_validates(path: Path) -> None:
    VALIDATOR.validate(parse_yaml(path.read_text(encoding="utf-8"), path.name))


SOURCE = {"path": "arithmetic", "limit": 5}


@pytest.mark.parametrize("place", ["train", "held_out"])
@pytest.mark.parametrize("sources", [SOURCE, [SOURCE], [SOURCE, {"path": "countdown", "weight": 3}]])
def test_data_is_a_source_or_a_list_of_them(sources: object, place: str) -> None:
    VALIDATOR.validate({**quickstart(), "data": {"train": SOURCE, place: sources}})


@pytest.mark.parametrize("sources", [[], "arithmetic", [{"split": "train"}], [{"path": "arithmetic", "wight": 1}]])
def test_what_is_no_source_does_not_validate(sources: object) -> None:
    assert not VALIDATOR.is_valid({**quickstart(), "data": {"train": sources}})


@pytest.mark.parametrize("algorithm", ["dapo", {"preset": "dapo"}, {"epsilon": 0.1}])
def test_an_algorithm_is_a_name_or_a_section(algorithm: object) -> None:
    VALIDATOR.validate({**quickstart(), "algorithm": algorithm})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sed": 1}, "'sed' was unexpected"),
        ({"seed": -1}, "-1 is less than the minimum of 0"),
        ({"log": {"wandb_mode": "off"}}, "'off' is not one of"),
        ({"algorithm": "dapoo"}, "'dapoo' is not valid under any of the given schemas"),
        ({"learner": {"learning_rate": 1e-4, "warmup": 3}}, "'warmup' was unexpected"),
    ],
)
def test_a_mistake_does_not_validate(change: dict[str, object], said: str) -> None:
    assert said in " ".join(error.message for error in VALIDATOR.iter_errors({**quickstart(), **change}))


def test_an_editor_shows_the_sentence_of_a_key() -> None:
    rollout = json_schema()["$defs"]["Rollout"]["properties"]
    assert rollout["num_generations"]["description"] == "answers to a problem, the group"


def test_a_source_to_train_on_has_the_sentences_of_any_source_and_its_own() -> None:
    train = json_schema()["$defs"]["TrainSource"]["properties"]
    assert train["limit"]["description"] == "at most this many rows are read"
    assert train["curriculum"]["description"].startswith("column with numbers")


def test_the_document_of_keys_is_what_the_schema_gives() -> None:
    committed = (SHIPPED.parent / "docs" / "keys.md").read_text(encoding="utf-8")
    assert committed == keys_document(), "run `make docs`"
