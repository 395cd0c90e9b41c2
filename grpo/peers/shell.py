"""The ``key=value`` overrides that a shell script gives to verl, with the script's own variables filled in.

A script is read, never run: what a command would print is not known, and stays as it is written.
"""

import ast
import operator
import re
import shlex
from collections.abc import Iterator
from typing import Any

from grpo.errors import UserError
from grpo.recipe import parse_yaml

ROOTS = (
    *("algorithm", "data", "actor_rollout_ref", "trainer", "reward_model", "reward_manager", "custom_reward_function"),
    *("critic", "reward", "ray_kwargs", "global_profiler", "transfer_queue", "rollout", "async_training"),
)
_OVERRIDE = re.compile(rf"\+{{0,2}}((?:{'|'.join(ROOTS)})\.[\w.]+)=(.*)", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(?!\()")
_ARRAY = re.compile(r"([A-Za-z_]\w*)\+?=\(")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_COMMENT = re.compile(r"\s+#\s[^'\"]*$")  # behind a command
_QUOTE = re.compile(r'(?<!\\)"')
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(\[@\]|,,)?(?::?[-=]((?:[^{}]|\$\{[^{}]*\})*))?\})")
_WHOLE_ARRAY = re.compile(r'"\$\{(\w+)\[@\]\}"')  # each of its words is a word of the command
_ARITHMETIC = re.compile(r"\$\(\(((?:[^()]|\([^()]*\)|\((?:[^()]|\([^()]*\))*\))*)\)\)")
_OPERATIONS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,  # the shell's division is of whole numbers
    ast.Mod: operator.mod,
}
HOME = {"HOME": "~", "PWD": ".", "@": "", "*": ""}


def overrides_of(script: str, source: str) -> dict[str, Any]:
    """The overrides of every command in a script, the last one of a key winning.

    >>> script = "n=4\\npython3 -m verl.trainer.main_ppo data.train_batch_size=$((n * 2)) +trainer.x=True $@"
    >>> overrides_of(script, "run.sh")
    {'data.train_batch_size': 8, 'trainer.x': True}

    Raises:
        UserError: a line is no shell, or the script holds no override.
    """
    variables, found = dict(HOME), {}
    for number, line in _logical_lines(script):
        array = _ARRAY.match(line)
        if array:
            variables[array[1]] = variables.get(array[1], "") + " " + line[array.end() :].rstrip().removesuffix(")")
            continue
        assignment = _ASSIGNMENT.match(line)
        try:
            words = shlex.split(_filled(line, variables), comments=True)
        except ValueError as error:
            raise UserError(f"{source}, line {number}: not valid shell: {error}. Mend that line") from error
        if assignment and words and not _OVERRIDE.match(line):
            variables[assignment[1]] = " ".join(words).partition("=")[2]
        for word in words:
            override = _OVERRIDE.fullmatch(word)
            if override:
                found[override[1]] = _value(override[2])
    if not found:
        raise UserError(
            f"{source} gives no override such as data.train_batch_size=1024. Name a script that starts verl"
        )
    return found


def _logical_lines(script: str) -> Iterator[tuple[int, str]]:
    """Commands with the number of their first line: continued lines joined, arrays too; without here-documents."""
    start, held, until = 0, "", None
    for number, line in enumerate(script.splitlines(), 1):
        if until is not None:
            until = None if line.strip() == until else until
            continue
        bare = _COMMENT.sub("", line.strip())
        if bare.startswith("#"):
            continue
        start = start if held else number
        heredoc = _HEREDOC.search(bare)
        if heredoc:
            until = heredoc[1]
        held = f"{held} {bare.removesuffix(chr(92))}".strip()
        if bare.endswith("\\") or _is_open(held, bare):
            continue
        if held:
            yield start, held
        held = ""
    if held:
        yield start, held


def _is_open(held: str, last: str) -> bool:
    """Whether a command goes on, because an array or a text within double quotes has not ended with its last line."""
    array = _ARRAY.match(held) and last != ")" and not (held == last and last.endswith(")"))
    return bool(array) or len(_QUOTE.findall(held)) % 2 == 1


def _filled(text: str, variables: dict[str, str]) -> str:
    """A line with variables and arithmetic filled in. Single quotes do not keep them out, as the shell's would."""
    text = _WHOLE_ARRAY.sub(lambda match: variables.get(match[1], ""), text)
    for _ in range(4):  # a default may hold another variable
        before = text
        text = _VARIABLE.sub(lambda match: _variable(match, variables), text)
        text = _ARITHMETIC.sub(lambda match: _computed(match, variables), text)
        if text == before:
            break
    return text.replace("$@", "").replace("$*", "")


def _variable(match: re.Match[str], variables: dict[str, str]) -> str:
    name = match[1] or match[2]
    if name not in variables:
        return match[0] if match[4] is None else match[4].strip("\"'")
    value = variables[name]
    return value.lower() if match[3] == ",," else value


def _computed(match: re.Match[str], variables: dict[str, str]) -> str:
    text = re.sub(r"[A-Za-z_]\w*", lambda name: variables.get(name[0], name[0]), match[1])
    try:
        return str(_number(ast.parse(text.strip(), mode="eval").body))
    except (ValueError, SyntaxError, ZeroDivisionError):
        return match[0]


def _number(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return int(_OPERATIONS[type(node.op)](_number(node.left), _number(node.right)))
    raise ValueError("no whole number")


def _value(text: str) -> Any:
    """As Hydra reads it: YAML, and where that fails, text."""
    try:
        return parse_yaml(text, "override")
    except UserError:
        return text
