"""Every error this project raises on purpose.

    GrpoError
    ├── UserError (ValueError)         exit code 2: something to mend in a recipe, a file or the machine
    │   ├── RecipeError                a key, its value, what is allowed
    │   ├── DataError                  a dataset, a column, a reference
    │   ├── ModelError                 a path or id that is no model, or one that does not fit
    │   └── MissingPackageError        an optional package that this recipe needs
    └── RunError (RuntimeError)        exit code 1: the run cannot go on
        ├── PublishError               new weights did not provably reach the engine
        ├── VerifierError              too many answers could not be scored
        ├── EngineError                the engine refused or lost a request
        ├── LearnerError               one of the learner's processes failed, or was not heard of in time
        ├── NonFiniteError             a loss or gradient is not a number
        ├── CheckpointError            a checkpoint could not be written or read
        └── ReplayError                a run is not what its hash chain says, or a step, run again, is not

A message says which key or file, the value found, what is allowed, and the fix.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path

LONGEST_INT = 512  # bits of a whole number that a message shows
LONGEST_VALUE = 200  # characters of a value that a message shows


class GrpoError(Exception):
    """Base of all; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UserError(GrpoError, ValueError):
    exit_code = 2


def as_written(value: object) -> str:
    """A value as a recipe has it, cut short where it is long; texts are quoted as in Python.

    >>> as_written({"name": "number", "gate": True}), as_written([None, 0.5])
    ("{name: 'number', gate: true}", '[null, 0.5]')
    """
    return shortened(_in_yaml(value))


def shortened(text: str) -> str:
    """At most ``LONGEST_VALUE`` characters of ``text``.

    >>> shortened("9" * 1000)[-8:]
    '99999...'
    """
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The fix where one of several names was meant: the nearest, or else what ``otherwise`` says.

    >>> did_you_mean("levle", ["question", "level"], "Name a column."), did_you_mean("x", ["level"], "Name a column.")
    ("Did you mean 'level'?", 'Name a column.')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean '{near[0]}'?" if near else otherwise


def did_you_mean_file(path: Path, pattern: str = "*") -> str:
    """The fix where there is no file at ``path``: the nearest beside it, of those that fit ``pattern``."""
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob(pattern)], n=1)
    return f"Did you mean {str(path.parent / near[0])!r}?" if near else "Paths are relative to the working folder."


def _in_yaml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_in_yaml(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > LONGEST_INT:  # Python refuses to write out the longest
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


class RecipeError(UserError):
    """A recipe key is unknown, has the wrong type, or contradicts another."""

    def __init__(self, key: str, value: object, allowed: str, fix: str) -> None:
        end = "" if allowed.endswith("?") else "."
        super().__init__(f"recipe key '{shortened(key)}' = {as_written(value)}: {allowed}{end} {fix}")
        self.key, self.value, self.allowed, self.fix = key, value, allowed, fix


class DataError(UserError):
    pass


class ModelError(UserError):
    pass


class MissingPackageError(UserError):
    pass


class RunError(GrpoError, RuntimeError):
    exit_code = 1


class PublishError(RunError):
    """The engine does not hold the learner's weights; sampling on would train on another policy's answers."""

    def __init__(self, message: str, *, tensor: str, version_sent: int, version_held: int) -> None:
        super().__init__(f"{message} (tensor {tensor}; version sent {version_sent}, version held {version_held})")
        self.tensor, self.version_sent, self.version_held = tensor, version_sent, version_held


class VerifierError(RunError):
    pass


class EngineError(RunError):
    pass


class LearnerError(RunError):
    pass


class NonFiniteError(RunError):
    pass


class CheckpointError(RunError):
    pass


class ReplayError(RunError):
    """A finished run's files were altered, or a step of it, run again, did something else."""
