"""The package's surface: names, messages, and what importing it brings in."""

import importlib.util
import subprocess
import sys
import time

import pytest

from rewards import VERIFIERS, Question, make_verifier

NEEDED: dict[str, dict[str, object]] = {
    "length": {"max_characters": 100, "soft_characters": 20},
    "cosine_length": {"correct": "number", "max_length": 100},
    "group_length": {"correct": "number"},
}
PACKAGES = {"json_schema": "jsonschema", "reasoning_gym": "reasoning_gym"}


def test_the_names_are_those_that_recipes_may_use() -> None:
    assert " ".join(VERIFIERS) == (
        "number math_answer code_tests countdown format tag_count length cosine_length group_length repetition "
        "language json_schema instructions reasoning_gym random"
    )


@pytest.mark.parametrize("name", VERIFIERS)
def test_every_name_makes_a_verifier_of_that_name(name: str) -> None:
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]}, an extra, is not installed")
    verifier = make_verifier(name, **NEEDED.get(name, {}))
    assert verifier.name == name
    assert verifier.scope in ("sample", "group", "batch")
    assert verifier.placement in ("inline", "pool", "service")
    assert verifier.check_reference("24") is None
    verifier.close()
    verifier.close()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("nummber", {}, r"'nummber'.*number, math_answer.*did you mean 'number'\?"),
        ("number", {"extrct": "boxed"}, r"'extrct'.*extract.*did you mean 'extract'\?"),
        ("number", {"extract": "box"}, r"'box'.*boxed"),
        ("number", {"self": 1}, r"'self'"),
        ("math_answer", {"cpu_s": 0}, r"cpu_s = 0.*0\.1"),
        ("math_answer", {"memory_mb": 5}, r"memory_mb = 5.*at least"),
        ("format", {"mode": "hard"}, r"mode = 'hard'.*strict, soft"),
        ("format", {"opened": "yes"}, r"opened = 'yes'"),
        ("length", {}, r"'max_characters'"),
        ("length", {"max_characters": 10, "soft_characters": 11}, r"soft_characters = 11.*10"),
        ("length", {"max_characters": "10", "soft_characters": 1}, r"max_characters = '10'"),
        ("length", {"max_tokens": 10}, r"soft_tokens = None"),
        (
            "length",
            {"max_tokens": 10, "max_characters": 9, "soft_tokens": 1},
            r"one unit.*max_characters and max_tokens",
        ),
        ("cosine_length", {"correct": "number"}, r"needs the argument 'max_length'"),
        ("repetition", {"ngram_size": 0}, r"ngram_size = 0.*1 to"),
        ("repetition", {"max_penalty": 1}, r"max_penalty = 1.*at most 0"),
        ("repetition", {"language": "fr"}, r"language = 'fr'.*en, zh"),
        ("language", {"langauge": "fr"}, r"'langauge'.*did you mean 'language'"),
        ("instructions", {"score": "mean"}, r"score = 'mean'.*all, share"),
        ("reasoning_gym", {"extract": "box"}, r"'box'.*boxed|reasoning-gym"),
        ("random", {"seed": 0.5}, r"seed = 0\.5"),
        ("random", {"share": 2}, r"share = 2"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(name: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_verifier(name, **args)


def test_importing_and_scoring_plain_answers_brings_in_nothing_heavy() -> None:
    code = """
import sys
from rewards import Question, make_verifier
verifier = make_verifier("math_answer", extract="boxed")
assert verifier.verify(r"\\boxed{4.0}", Question(text="", reference="4")).score == 1.0
forbidden = {"grpo", "torch", "vllm", "numpy", "sympy", "math_verify", "jsonschema", "reasoning_gym"}
heavy = forbidden & {name.split(".")[0] for name in sys.modules}
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 10


def test_the_example_of_the_package_holds() -> None:
    verdict = make_verifier("number").verify("<think>2+2</think><answer>4</answer>", Question(text="", reference="4"))
    assert verdict.score == 1.0
