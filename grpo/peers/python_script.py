"""The keys that a Python script of TRL gives: literals in its calls of GRPOConfig, GRPOTrainer and load_dataset."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grpo.errors import UserError
from grpo.peers.reading import read_text

CONFIGS = ("GRPOConfig", "ModelConfig", "ScriptArguments", "GRPOScriptArguments")
LOADER = ("dataset_name", "dataset_config")  # by position in load_dataset
NOT_LITERAL = object()


def read_script(path: Path) -> dict[str, Any]:
    """Keyword arguments that are written out; what a script computes cannot be read from it.

    Raises:
        UserError: it is no Python, or calls no GRPOConfig.
    """
    try:
        tree = ast.parse(read_text(path))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid Python: {error.msg}. Mend that line") from error
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    configs = [call for call in calls if _name(call.func) in CONFIGS]
    if not any(_name(call.func) == "GRPOConfig" for call in configs):
        raise UserError(f"{path} calls no GRPOConfig(...). Name a script that does, or a YAML file with its keys")
    found = dict(pair for call in configs for pair in _literals(call))
    modules = dict(_imported(tree))
    for call in calls:
        if _name(call.func) == "GRPOTrainer":
            found |= _of_trainer(call, modules)
        elif _name(call.func) == "load_dataset":
            for key, value in _of_loader(call):
                found.setdefault(key, value)
    return found


def _literals(call: ast.Call) -> Iterator[tuple[str, Any]]:
    for keyword in call.keywords:
        value = _literal(keyword.value)
        if keyword.arg is not None and value is not NOT_LITERAL:
            yield keyword.arg, value


def _of_trainer(call: ast.Call, modules: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in call.keywords:
        value = _literal(keyword.value)
        if keyword.arg == "model" and isinstance(value, str):
            found["model_name_or_path"] = value
        elif keyword.arg == "reward_funcs":
            nodes = keyword.value.elts if isinstance(keyword.value, ast.List) else [keyword.value]
            names = [node.id for node in nodes if isinstance(node, ast.Name)]
            found["reward_funcs"] = [f"{modules[name]}.{name}" if name in modules else name for name in names]
        elif keyword.arg == "peft_config":
            found["use_peft"] = True
    return found


def _of_loader(call: ast.Call) -> Iterator[tuple[str, Any]]:
    values = [_literal(argument) for argument in call.args]
    yield from ((key, value) for key, value in zip(LOADER, values, strict=False) if isinstance(value, str))
    split = dict(_literals(call)).get("split")
    if isinstance(split, str):
        yield ("dataset_test_split" if split.startswith("test") else "dataset_train_split"), split


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, node.module) for alias in node.names)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NOT_LITERAL
