"""A reward function that somebody wrote: found, recognized, called, and its results read strictly.

    # my_rewards.py
    def brevity(completion, problem):
        return 1.0 / (1 + len(completion))

Whatever it does wrong becomes a verdict without a score that names the function and what it did: a list of another
length is not broadcast, and None, NaN or a text are never taken for a number.
"""

import inspect
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from rewards.arguments import check_choice
from rewards.conventions import Convention, UnknownConventionError, as_messages, keywords_for, recognize
from rewards.user_module import load_file, load_module
from rewards.verdict import Placement, Question, Scope, Status, Verdict, failed

SCOPES = ("sample", "group", "batch")
PLACEMENTS = ("pool", "inline", "service")
_MAX_SHOWN = 80  # characters of a bad value in a reason
_OURS = Path(__file__).parent
_Function = TypeVar("_Function", bound=Callable[..., Any])


def reward(*, scope: Scope | None = None, placement: Placement = "pool") -> Callable[[_Function], _Function]:
    """Declares what a reward function sees and where it runs.

    >>> @reward(scope="batch", placement="inline")
    ... def rank(completions, problems):
    ...     return [float(len(completion)) for completion in completions]

    Args:
        scope: "sample", "group" (all answers to one problem) or "batch" (of a step); absent: as its parameters say.
        placement: "pool": killable worker processes, with limits; "inline": the trainer's own process, for what is
            quick and cannot hang; "service": processes without a CPU limit, for what waits on something remote.

    Raises:
        ValueError: a value that is none of these.
    """
    if scope is not None:
        check_choice("scope", scope, SCOPES)
    check_choice("placement", placement, PLACEMENTS)

    def declare(function: _Function) -> _Function:
        function.__dict__["reward"] = {"scope": scope, "placement": placement}
        return function

    return declare


class RewardFunction:
    """One function, with the arguments that the recipe gives it.

    Raises:
        ValueError: there is no such file, module or function, it cannot be imported, its parameters are those of no
            convention, or it takes no such argument; the message says which.
    """

    def __init__(self, target: str, args: Mapping[str, Any] | None = None) -> None:
        self.target = target
        self._args = dict(args or {})
        self._function = _find(target)
        try:
            self.convention: Convention = recognize(self._function)
            self._check_args()
        except UnknownConventionError as error:
            raise ValueError(f"fn = {target!r}: {error}") from None
        declared = getattr(self._function, "reward", None) or {}
        self.scope: Scope = declared.get("scope") or self.convention.scope
        self.placement: Placement = declared.get("placement", "pool")
        if self.convention.scope == "sample" and self.scope != "sample":
            raise ValueError(
                f"fn = {target!r}: scope '{self.scope}' needs a function of many answers (completions, problems)"
            )
        # Whether it wants answers as messages: by what it reads of them, else known after its first call.
        self._as_messages: bool | None = True if _mentions(self._function, "content") else None

    def __call__(self, completions: Sequence[str], questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per answer. Raises MemoryError, and nothing else, so that a leaking process can be replaced."""
        if self.scope == "sample":
            return [self._one(c, q) for c, q in zip(completions, questions, strict=True)]
        try:
            returned = self._call(completions, questions)
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return [failed(self._raised(error))] * len(completions)
        return self._read_list(returned, len(completions))

    def _one(self, completion: str, question: Question) -> Verdict:
        try:
            returned = self._call([completion], [question])
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return failed(self._raised(error))
        if self.convention.scope != "sample":
            return self._read_list(returned, 1)[0]
        return self._read(returned)

    def _call(self, completions: Sequence[str], questions: Sequence[Question]) -> Any:
        offered = self.convention.call(completions, questions)
        references = [question.reference for question in questions] if self.convention.name == "TRL" else None
        keywords = keywords_for(self._function, offered, self._args, references)
        if self.convention.name != "TRL":
            return _run(self._function, keywords)
        if self._as_messages is None:
            return self._first_call(keywords, completions)
        if self._as_messages:
            keywords |= _conversational(keywords, completions)
        return _run(self._function, keywords)

    def _first_call(self, keywords: dict[str, Any], completions: Sequence[str]) -> Any:
        """TRL gives text or messages, as the data is; a function for messages fails on text, and is given them."""
        try:
            returned = _run(self._function, keywords)
        except (TypeError, KeyError, AttributeError) as error:
            try:
                returned = _run(self._function, keywords | _conversational(keywords, completions))
            except (TypeError, KeyError, AttributeError):
                raise error from None
            self._as_messages = True
            return returned
        self._as_messages = False
        return returned

    def _read_list(self, returned: Any, count: int) -> list[Verdict]:
        if isinstance(returned, Mapping) and "rewards" in returned:
            returned = returned["rewards"]
        if hasattr(returned, "tolist") and hasattr(returned, "reshape"):
            returned = returned.reshape(-1).tolist()
        if not isinstance(returned, list | tuple):
            return [failed(f"{self.target} returned {_show(returned)}; a list of {count} scores is needed")] * count
        if len(returned) != count:
            reason = f"{self.target} returned {len(returned)} scores for {count} answers; one for each is needed"
            return [failed(reason)] * count
        return [self._read(value) for value in returned]

    def _read(self, value: Any) -> Verdict:
        """One result: a Verdict, a number, a dict with ``score`` (and ``acc``), or None for no score."""
        if isinstance(value, Verdict):
            return value
        if value is None:
            return Verdict(score=None, status=Status.UNSCORED, reason=f"{self.target} gave no score (None)")
        correct = None
        if isinstance(value, Mapping) and "score" in value:
            correct, value = value.get("acc"), value["score"]
        score = _number(value)
        if score is None:
            return failed(f"{self.target} returned {_show(value)}; a number, a Verdict or None is needed")
        if not math.isfinite(score):
            return failed(f"{self.target} returned {score}; a finite number is needed")
        is_correct = score >= 1 if correct is None else bool(correct)
        return Verdict(score=score, status=Status.CORRECT if is_correct else Status.WRONG)

    def _raised(self, error: BaseException) -> str:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent != _OURS]
        where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
        return f"{self.target} raised {type(error).__name__}: {_cut(str(error))}{where}"

    def _check_args(self) -> None:
        """What can be known before the first answer: that the recipe's arguments are taken."""
        names = inspect.signature(self._function).parameters
        offered = {name: None for name in names if name not in self._args}
        keywords_for(self._function, offered, self._args)


def _number(value: Any) -> float | None:
    """Of a plain number, or an array that holds one; None for anything else."""
    if hasattr(value, "item") and not isinstance(value, int | float):
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):  # of several numbers
            return None
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _find(target: str) -> Callable[..., Any]:
    """The function at ``FILE.py:NAME`` or ``package.module:NAME``."""
    place, colon, name = target.rpartition(":")
    if not colon or not name or not place:
        raise ValueError(f"fn = {target!r}: write FILE.py:FUNCTION or package.module:FUNCTION")
    if place.endswith(".py"):
        module = _import_file(target, Path(place))
    else:
        module = _imported(target, lambda: load_module(place))
    found = getattr(module, name, None)
    if not callable(found):
        functions = sorted(key for key, value in vars(module).items() if inspect.isfunction(value))
        raise ValueError(f"fn = {target!r}: {place} has no function {name!r}; it has {', '.join(functions) or 'none'}")
    return found  # type: ignore[no-any-return]


def _import_file(target: str, path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"fn = {target!r}: there is no file {path}")
    return _imported(target, lambda: load_file(path, prefix="reward_file_"))


def _imported(target: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise ValueError(f"fn = {target!r}: importing it raised {type(error).__name__}: {_cut(str(error))}") from error


def _run(function: Callable[..., Any], keywords: dict[str, Any]) -> Any:
    returned = function(**keywords)
    if not inspect.isawaitable(returned):
        return returned
    import asyncio  # slow to import, and few functions need it

    return asyncio.run(_wait(returned))


async def _wait(awaitable: Any) -> Any:
    return await awaitable


def _mentions(function: Callable[..., Any], word: str) -> bool:
    """Whether a function's own code holds the text, its comprehensions and inner functions included."""
    codes = [getattr(inspect.unwrap(function), "__code__", None)]
    while codes:
        code = codes.pop()
        if code is None:
            continue
        if word in code.co_consts:
            return True
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return False


def _conversational(keywords: Mapping[str, Any], completions: Sequence[str]) -> dict[str, Any]:
    changed: dict[str, Any] = {"completions": as_messages(completions)}
    if "prompts" in keywords:
        changed["prompts"] = [[{"role": "user", "content": prompt}] for prompt in keywords["prompts"]]
    return changed


def _show(value: object) -> str:
    """A bad value, short, without writing out what may be a gigabyte."""
    if isinstance(value, str | bytes):
        return f"{type(value).__name__} {value[:_MAX_SHOWN]!r}" + ("…" if len(value) > _MAX_SHOWN else "")
    if isinstance(value, int | float | bool):
        return repr(value)
    return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= 4 * _MAX_SHOWN else text[: 4 * _MAX_SHOWN] + "…"
