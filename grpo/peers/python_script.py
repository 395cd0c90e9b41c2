"""The keys that a Python script of TRL gives: constants in its calls of GRPOConfig, GRPOTrainer and load_dataset."""

import ast
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo.errors import UserError
from grpo.peers.reading import read_text
from grpo.peers.trl_rest import WITHOUT_COUNTERPART

CONFIGS = ("GRPOConfig", "ModelConfig", "ScriptArguments", "GRPOScriptArguments")
LOADER = ("path", "name", "data_dir", "data_files", "split")  # by position in load_dataset
FILES = ("json", "parquet")  # what load_dataset calls a file of rows, beside data_files
SETS_NOTHING = {row.key for row in WITHOUT_COUNTERPART}
NOT_CONSTANT = object()
MOST_DIGITS = 1000  # of a power: a config's numbers are far below
_OPERATIONS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True, slots=True)
class _Script:
    """A parsed script, with the names that it assigns once and the modules that it imports from."""

    path: Path
    assigned: dict[str, ast.expr]
    modules: dict[str, str]


def read_script(path: Path) -> dict[str, Any]:
    """Keyword arguments that are constants, or are reckoned of constants; attributes, as of parsed arguments, are left.

    Raises:
        UserError: it is no Python, calls no GRPOConfig, or gives it what only running the script would tell.
    """
    try:
        tree = ast.parse(read_text(path))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid Python: {error.msg}. Mend that line") from error
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    configs = [call for call in calls if _name(call.func) in CONFIGS]
    if not any(_name(call.func) == "GRPOConfig" for call in configs):
        raise UserError(f"{path} calls no GRPOConfig(...). Name a script that does, or a YAML file with its keys")
    script = _Script(path, dict(_assigned(tree)), dict(_imported(tree)))
    found = dict(pair for call in configs for pair in _of_config(call, script))
    for call in calls:
        if _name(call.func) == "GRPOTrainer":
            found |= _of_trainer(call, script)
        elif _name(call.func) == "load_dataset":
            for key, value in _of_loader(call, script):
                found.setdefault(key, value)
    return found


def _of_config(call: ast.Call, script: _Script) -> Iterator[tuple[str, Any]]:
    for keyword in call.keywords:
        value = _constant(keyword.value, script)
        if keyword.arg is None:
            if not isinstance(value, dict):
                raise _refusal(script, keyword.value, f"**{_name(call.func)}", "write its keys out there, each by name")
            yield from value.items()
        elif value is not NOT_CONSTANT:
            yield keyword.arg, value
        elif keyword.arg in SETS_NOTHING:
            yield keyword.arg, ast.unparse(keyword.value)  # told with its reason, whatever it would come to
        elif not isinstance(keyword.value, ast.Attribute):
            fix = "write the number or text there, or leave the key out and set it in the recipe"
            raise _refusal(script, keyword.value, keyword.arg, fix)


def _of_trainer(call: ast.Call, script: _Script) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in call.keywords:
        value = _constant(keyword.value, script)
        if keyword.arg == "model" and isinstance(value, str):
            found["model_name_or_path"] = value
        elif keyword.arg == "reward_funcs" and not isinstance(keyword.value, ast.Attribute):
            found["reward_funcs"] = list(_reward_names(keyword.value, script))
        elif keyword.arg == "peft_config":
            found["use_peft"] = True
    return found


def _reward_names(node: ast.expr, script: _Script) -> Iterator[str]:
    """The functions of a list or a tuple, also one that has a name, each behind the module that it is imported from."""
    named = script.assigned.get(node.id) if isinstance(node, ast.Name) else None
    node = named if isinstance(named, ast.List | ast.Tuple) else node
    for each in node.elts if isinstance(node, ast.List | ast.Tuple) else [node]:
        if isinstance(each, ast.Name):
            yield f"{script.modules[each.id]}.{each.id}" if each.id in script.modules else each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value
        else:
            fix = "write the function's name there, or leave the key out and set rewards in the recipe"
            raise _refusal(script, each, "reward_funcs", fix)


def _of_loader(call: ast.Call, script: _Script) -> Iterator[tuple[str, Any]]:
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    nodes = dict(zip(LOADER, call.args, strict=False)) | given
    values = {key: _constant(node, script) for key, node in nodes.items()}
    if values.get("path") in FILES and "data_files" in nodes:
        values["path"] = _only_file(nodes["data_files"], script)
    for key, ours in (("path", "dataset_name"), ("name", "dataset_config")):
        if isinstance(values.get(key), str):
            yield ours, values[key]
    split = values.get("split")
    if isinstance(split, str):
        yield ("dataset_test_split" if split.startswith("test") else "dataset_train_split"), split


def _only_file(node: ast.expr, script: _Script) -> str | None:
    """The one file of ``data_files``, which may be within a list or a mapping of splits; None is left to a recipe."""
    value = _constant(node, script)
    value = value.get("train", value) if isinstance(value, dict) else value
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, str):
        return value
    if isinstance(node, ast.Attribute):
        return None
    fix = "write the path of one file there, or leave the key out and set data.train.path in the recipe"
    raise _refusal(script, node, "data_files", fix)


def _refusal(script: _Script, node: ast.expr, key: str, fix: str) -> UserError:
    return UserError(
        f"{script.path}, line {node.lineno}: {key} = {ast.unparse(node)} is known only when the script runs,"
        f" and it is read here, not run. Fix: {fix}"
    )


def _assigned(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names that are bound in one place of the script, by an assignment: any other may hold something else by then."""
    nodes = list(ast.walk(tree))
    bound = [node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)]
    bound += [node.arg for node in nodes if isinstance(node, ast.arg)]
    times = Counter(bound)
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if times[name] == 1:
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if times[name] == 1:
                yield name, value


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, node.module) for alias in node.names)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _constant(node: ast.expr, script: _Script) -> Any:
    try:
        return _folded(node, script.assigned)
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return NOT_CONSTANT


def _folded(node: ast.expr, assigned: dict[str, ast.expr]) -> Any:
    """What an expression of constants comes to; a tuple is a list, as in YAML.

    Raises:
        ValueError: it holds more than constants, names of such and arithmetic.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in assigned:
            return _folded(assigned[name], {key: each for key, each in assigned.items() if key != name})
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_folded(part, assigned) for part in parts]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_folded(key, assigned): _folded(value, assigned) for key, value in pairs if key}
        case ast.Call(func=ast.Name(id="float" | "int" as kind), args=[part], keywords=[]):
            return {"float": float, "int": int}[kind](_folded(part, assigned))
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_folded(part, assigned)
        case ast.BinOp(op=sign, left=left, right=right) if type(sign) in _OPERATIONS:
            return _reckoned(sign, _folded(left, assigned), _folded(right, assigned))
    raise ValueError("no constant")


def _reckoned(sign: ast.operator, left: Any, right: Any) -> Any:
    texts = isinstance(sign, ast.Add) and isinstance(left, str) and isinstance(right, str)
    if not texts and not (isinstance(left, int | float) and isinstance(right, int | float)):
        raise ValueError("no numbers")
    if isinstance(sign, ast.Pow) and abs(right) * len(str(left)) > MOST_DIGITS:
        raise ValueError("too large a power")
    return _OPERATIONS[type(sign)](left, right)
