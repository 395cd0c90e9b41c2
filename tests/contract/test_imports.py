"""The import rule (CONTRIBUTING.md), as a table: a room of the code, and the rooms that it may import.

A room is a top-level module or folder of ``grpo``, or ``rewards``. Imports under TYPE_CHECKING and within functions
count like any other.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Everyone may import these; among themselves they are held to their own rows.
COMMON = {"datatypes", "recipe", "metrics", "errors", "seeds"}

ALLOWED: dict[str, set[str]] = {
    # common ground
    "errors": set(),
    "seeds": set(),
    "templates": {"errors"},
    "recipe": {"errors", "rewards", "metrics", "templates"},
    "datatypes": {"rewards"},
    "metrics": {"errors", "rewards"},
    # what stands on the common ground alone
    "allocator": set(),
    "arithmetic": set(),
    "buckets": set(),
    "estimators": set(),
    "advantages": COMMON,
    "packing": COMMON,
    "objective": COMMON | {"advantages", "packing"},  # for what is said of them beside the rest
    "models": COMMON,
    "precision": set(),
    "processes": set(),
    "python_tool": {"rewards"},
    "failure_watch": COMMON,
    "buffer": COMMON,
    "judge": COMMON | {"rewards"},
    "scoring": COMMON | {"judge", "rewards"},
    "proportion": set(),
    "console": COMMON | {"proportion", "sparkline"},
    "sinks": COMMON,
    "run_folder": COMMON,
    "chain": COMMON | {"run_folder"},
    "surroundings": COMMON | {"data", "run_folder"},
    "checkpoint": COMMON,
    "checkpoint_store": COMMON | {"checkpoint"},
    "stored_state": COMMON | {"buckets"},
    "score_difference": set(),
    "weights": COMMON | {"score_difference"},
    "gym_generator": COMMON,
    "generators": COMMON | {"arithmetic", "gym_generator"},
    "loading_bar": set(),
    "row_filter": COMMON,
    "row_function": COMMON | {"rewards"},
    "sources": COMMON | {"generators", "loading_bar", "row_function"},
    "columns": COMMON | {"sources"},
    "streams": COMMON | {"generators"},
    "source_problems": COMMON
    | {"columns", "generators", "gym_generator", "loading_bar", "row_filter", "row_function", "sources", "streams"},
    "data": COMMON | {"proportion", "source_problems", "streams"},
    "prompts": COMMON | {"models", "templates"},
    "prompt_outline": COMMON | {"models", "model_shape", "templates"},
    "model_shape": COMMON | {"models"},
    "parallel_sizes": COMMON | {"model_shape"},
    "memory": COMMON | {"model_shape", "parallel_sizes"},
    "plan": COMMON | {"memory", "model_shape", "parallel_sizes"},
    "slurm": COMMON | {"parallel_sizes"},
    "tiny_base": {"arithmetic", "generators"},
    # the stages
    "engine": COMMON
    | {"weights", "processes", "buckets", "score_difference", "allocator"},  # only the names in FROM_WEIGHTS
    "learner": COMMON | {"packing", "objective", "processes", "buckets", "allocator"},
    "rollout": COMMON | {"engine", "prompts", "advantages"},
    "evaluation": COMMON | {"engine", "prompts", "estimators", "scoring", "rewards"},
    # the loop, and what only it uses
    "step_metrics": COMMON | {"advantages", "learner", "weights", "rewards"},
    "transcripts": COMMON | {"buffer", "rewards"},
    "run_state": COMMON | {"buffer", "learner"},
    "trainer": COMMON
    | {"rollout", "buffer", "learner", "weights", "evaluation", "checkpoint_store", "stored_state", "advantages"}
    | {"failure_watch", "chain", "surroundings", "step_metrics", "transcripts", "run_state", "run_folder", "console"},
    # the way in
    "launch": COMMON
    | {
        "trainer",
        "rollout",
        "buffer",
        "learner",
        "weights",
        "evaluation",
        "checkpoint",
        "checkpoint_store",
        "engine",
        "prompts",
        "data",
    }
    | {"scoring", "models", "rewards", "model_shape", "check", "run_folder", "run_state", "console", "assembly"}
    | {"material", "parallel_sizes", "surroundings", "sinks"},
    "material": COMMON | {"assembly", "data", "engine", "evaluation", "learner", "prompts", "scoring"},
    "assembly": COMMON | {"learner", "engine", "crew", "models", "precision", "prompts", "python_tool", "rewards"},
    "crew": COMMON | {"learner", "processes"},
    "check": COMMON
    | {"objective", "memory", "model_shape", "parallel_sizes", "plan", "scoring", "generators", "sources"}
    | {"gym_generator", "prompt_outline", "row_filter", "row_function"},
    "peers": COMMON | {"parallel_sizes", "check"},
    "import_command": {"command", "peers"},
    "replay": COMMON | {"launch", "chain", "checkpoint", "run_folder"},
    "reward_trial": COMMON | {"scoring", "rewards"},
    "doctor": {"rewards"},
    "data_report": COMMON | {"console", "data", "loading_bar", "prompts", "scoring", "streams", "surroundings"},
    "sparkline": set(),
    "run": COMMON | {"checkpoint", "run_folder", "sparkline", "sample"},
    "runs": COMMON | {"run", "run_folder", "sparkline"},
    "sample": COMMON
    | {
        "launch",
        "material",
        "assembly",
        "engine",
        "prompts",
        "data",
        "scoring",
        "check",
        "console",
        "model_shape",
        "rewards",
    },
    "api": COMMON | {"launch", "run", "evaluation"},
    "command": COMMON,
    "runs_command": {"command", "runs", "sparkline"},
    "launch_command": COMMON | {"command", "slurm"},
    "reward_command": {"command", "reward_trial"},
    "sandbox_command": COMMON | {"command", "rewards"},
    "cli": COMMON
    | {"launch", "replay", "checkpoint", "check", "plan", "slurm", "reward_trial", "doctor", "rewards"}
    | {"command", "data_report", "import_command", "launch_command", "reward_command", "run", "runs_command", "sample"}
    | {"sandbox_command"},
    "__main__": {"cli"},
    # of its own
    "rewards": set(),
    "__init__": {"api", "recipe", "run"},
}

FROM_WEIGHTS = {"Receipt", "Tensors", "fingerprint"}  # the one edge between engine, learner and weights
VLLM_ROOM = ROOT / "grpo" / "engine" / "vllm_engine"
WITHOUT_TORCH = (
    *("rewards", "recipe", "errors", "seeds", "datatypes", "model_shape", "memory", "check", "generators"),
    *("templates", "prompt_outline"),
    *("parallel_sizes", "plan", "slurm", "peers", "advantages", "packing"),
    *("__init__", "api", "command", "run", "runs", "runs_command", "import_command", "sparkline"),
)

MODULES = sorted([*(ROOT / "grpo").rglob("*.py"), *(ROOT / "rewards").rglob("*.py")])


def room_of(parts: tuple[str, ...]) -> str:
    """``("grpo", "engine", "protocol")`` is in the room ``engine``."""
    if parts[0] == "rewards":
        return "rewards"
    return parts[1] if len(parts) > 1 else "__init__"


def room_of_file(path: Path) -> str:
    return room_of(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every module imported, absolute, with the name taken from it; ``from grpo import x`` imports ``grpo.x``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split(".")), ""
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield ((*module, alias.name), "") if module == ("grpo",) else (module, alias.name)


def violations(path: Path, source: str) -> list[str]:
    """Every import of this file that the table forbids."""
    room, package = room_of_file(path), path.relative_to(ROOT).parent.parts
    found = []
    for module, name in imports_of(ast.parse(source), package):
        top = module[0]
        if top == "vllm" and VLLM_ROOM not in path.parents:
            found.append(f"{room} imports vllm: only grpo/engine/vllm_engine/ may")
        if top in ("torch", "vllm", "transformers") and room in WITHOUT_TORCH:
            found.append(f"{room} imports {top}: it must do without")
        if top not in ("grpo", "rewards") or room_of(module) == room:
            continue
        target = room_of(module)
        if target not in ALLOWED[room]:
            found.append(f"{room} imports {target}: not in its row of ALLOWED")
        elif (room, target) == ("engine", "weights") and name not in FROM_WEIGHTS:
            found.append(f"engine imports {name or 'all'} of weights: only {sorted(FROM_WEIGHTS)} may cross")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_row_allows(path: Path) -> None:
    assert room_of_file(path) in ALLOWED, f"give {room_of_file(path)} a row in ALLOWED"
    assert violations(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("grpo/packing.py", "from grpo.trainer import Trainer"),
        ("grpo/packing.py", "from grpo import trainer"),
        ("grpo/packing.py", "import grpo.trainer"),
        ("grpo/packing.py", "from . import trainer"),
        ("grpo/engine/protocol.py", "def f():\n    from grpo.learner import Learner"),
        ("grpo/engine/protocol.py", "from ..learner.policy import Policy"),
        ("grpo/engine/protocol.py", "from grpo.weights import Publisher"),
        ("grpo/engine/protocol.py", "from grpo import weights"),
        ("grpo/learner/learner.py", "from grpo.weights import Receipt"),
        ("grpo/weights.py", "if TYPE_CHECKING:\n    from grpo.engine.protocol import Engine"),
        ("grpo/trainer.py", "import vllm.distributed"),
        ("grpo/engine/transformers_engine.py", "from vllm import LLM"),
        ("rewards/number.py", "from grpo.errors import UserError"),
        ("rewards/number.py", "import torch"),
        ("grpo/recipe/load.py", "from transformers import AutoConfig"),
    ],
)
def test_the_rule_catches_a_forbidden_import(file: str, source: str) -> None:
    assert violations(ROOT / file, source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("grpo/engine/vllm_engine/engine.py", "import vllm"),
        ("grpo/engine/protocol.py", "from grpo.weights import Receipt, Tensors"),
        ("grpo/trainer.py", "from grpo.learner import Learner"),
        ("grpo/recipe/load.py", "from grpo.recipe.schema import Recipe"),
    ],
)
def test_the_rule_lets_an_allowed_import_pass(file: str, source: str) -> None:
    assert violations(ROOT / file, source) == []


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while left := ALLOWED.keys() - done:
        free = {room for room in left if not (ALLOWED[room] - {room} - done)}
        assert free, f"these rooms import each other in a circle: {sorted(left)}"
        done |= free


def test_no_file_hides_a_module_of_the_standard_library_or_a_dependency() -> None:
    hidden = {path.stem for path in MODULES if path.stem in sys.stdlib_module_names}
    dependencies = {
        "torch",
        "vllm",
        "transformers",
        "datasets",
        "accelerate",
        "peft",
        "pydantic",
        "yaml",
        "typer",
        "rich",
    }
    assert all(importlib.util.find_spec(name) for name in ("torch", "transformers", "pydantic"))
    assert hidden - {"__init__"} == set()
    assert {path.stem for path in MODULES} & dependencies == set()
