"""Any recipe, any override, any data file: a recipe or problems come out, or one of the project's own errors."""

import functools
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from grpo.data import Dataset, load_data
from grpo.errors import DataError, GrpoError
from grpo.recipe import SHIPPED, Data, Recipe, TrainSource, parse_recipe, recipe_keys, to_yaml
from rewards import NumberVerifier

QUICKSTART = (SHIPPED / "quickstart.yaml").read_text(encoding="utf-8")
fuzz = functools.partial(
    settings, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

ODD = st.sampled_from(
    [
        *("", "~", "off", "1e999", ".nan", "010", "2024-01-01", "=", "<<", "*a", "&a b", "!!python/name:os.system"),
        *(
            "\0",
            "a\0b",
            "\ud800",
            "\x85",
            "\u2028",
            "../..",
            "/",
            "~",
            "9" * 5000,
            "x" * 5000,
            "[" * 3000,
            "{a: " * 300,
        ),
        *(2**31, 2**63, -(2**63), 10**400, 0, -1, 1e308, -0.0, float("nan"), float("inf")),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD
VALUES = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(SCALARS.filter(lambda key: key == key), below, max_size=3)
    ),
    max_leaves=6,
)
KEYS = sorted({*recipe_keys(), *(key.rpartition(".")[0] for key in recipe_keys() if "." in key)})
NAMES = sorted({name for key in KEYS for name in key.split(".") if name != "N"})
SENSIBLE = st.integers(-1, 20) | st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, True, False, "vllm", "transformers", "chat"])


def accepted(text: str, overrides: Any = ()) -> None:
    """Parse it; what is accepted is written out and read back."""
    recipe = outcome(lambda: parse_recipe(text, overrides), GrpoError)
    if isinstance(recipe, GrpoError):
        assert 10 < len(str(recipe)) < 3000  # says something, and no more than can be read
        return
    assert isinstance(recipe, Recipe)
    assert parse_recipe(to_yaml(recipe)) == recipe


def outcome(call: Callable[[], object], expected: type[Exception]) -> object:
    """What it returns, or the error of the expected kind that it raises."""
    try:
        return call()
    except expected as error:
        return error


def planted(tree: Any, key: str, value: object) -> None:
    """Set a dotted key, whatever stands in the way."""
    *path, last = ["0" if part == "N" else part for part in key.split(".")]
    for part in path:
        below = tree[0] if isinstance(tree, list) and tree else tree
        if not isinstance(below, dict):
            return
        tree = below.setdefault(part, {})
    if isinstance(tree, dict):
        tree[last] = value


@fuzz(max_examples=60)
@given(st.dictionaries(st.sampled_from(KEYS), SENSIBLE | VALUES, max_size=4))
def test_any_values_of_any_keys(values: dict[str, object]) -> None:
    tree = yaml.safe_load(QUICKSTART)
    for key, value in values.items():
        planted(tree, key, value)
    accepted(yaml.dump(tree))


@fuzz(max_examples=50)
@given(
    st.recursive(
        SENSIBLE | SCALARS,
        lambda below: st.dictionaries(st.sampled_from(NAMES), below, max_size=5) | st.lists(below, max_size=3),
        max_leaves=12,
    )
)
def test_any_tree_of_the_schemas_names(tree: object) -> None:
    accepted(yaml.dump(tree))


@fuzz(max_examples=60)
@given(st.text() | st.text(alphabet="ab:-[]{}!&*<>|'\"#%@`\t\n ,?~.019", max_size=60) | ODD.map(str))
def test_any_text(text: str) -> None:
    accepted(text)
    accepted(f"{QUICKSTART}\n{text}")


@fuzz(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*KEYS, *NAMES]) | st.text(max_size=10), SENSIBLE.map(json.dumps) | ODD.map(str) | st.text()
        )
        .map("=".join)
        .map(lambda text: text.replace(".N", ".0", 1)),
        max_size=4,
    )
)
def test_any_overrides(overrides: list[str]) -> None:
    accepted(QUICKSTART, overrides)


@fuzz(max_examples=40)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=10), SENSIBLE | VALUES, max_size=3))
@example({"seed": 10**400})  # more than a message can show as a number
@example({"seed": 10**5000})  # and more than Python writes out
def test_any_overrides_from_python(overrides: dict[str, object]) -> None:
    accepted(QUICKSTART, overrides)


ROWS = st.dictionaries(st.sampled_from(["question", "answer", "level"]), VALUES | SENSIBLE, max_size=3)
LINES = st.lists(
    ROWS.map(functools.partial(json.dumps, default=str, skipkeys=True)).map(str.encode) | st.binary(max_size=20)
)


@fuzz(max_examples=60)
@given(st.binary() | LINES.map(b"\n".join), st.sampled_from([".jsonl", ".jsonl.gz", ".parquet"]), st.booleans())
def test_any_bytes_as_data(content: bytes, suffix: str, narrowed: bool) -> None:
    source = TrainSource(path="", filter="level > 1" if narrowed else None, curriculum="level" if narrowed else None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"rows{suffix}"
        file.write_bytes(gzip.compress(content) if suffix == ".jsonl.gz" and len(content) % 2 else content)
        data = Data(train=source.model_copy(update={"path": str(file)}), num_held_out=1)
        check = NumberVerifier().check_reference
        dataset = outcome(lambda: load_data(data, seed=0, check_reference=check), DataError)
    if isinstance(dataset, DataError):
        assert str(dataset).startswith("data.")
        return
    assert isinstance(dataset, Dataset)
    assert len(dataset.held_out) == 1
