"""What the commands share: their common options, completion, and how an error becomes a message and an exit code."""

import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from grpo.errors import GrpoError, UserError
from grpo.recipe import SHIPPED, recipe_keys

INTERRUPTED = 130  # what a shell reports of a process ended by SIGINT


def complete_recipe(incomplete: str) -> list[str]:
    """Recipe files and folders that a path may go on with; before anything is typed, the shipped recipes too."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    found = [*folder.glob("*.yaml"), *(path for path in folder.glob("*") if path.is_dir())]
    here = [f"{path}/" if path.is_dir() else str(path) for path in sorted(found) if not path.name.startswith(".")]
    shipped = [] if "/" in incomplete else [_short(path) for path in sorted(SHIPPED.glob("*.yaml"))]
    return list(dict.fromkeys(name for name in (*here, *shipped) if name.startswith(incomplete)))


def _short(path: Path) -> str:
    """Relative to the working directory where it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def complete_override(incomplete: str) -> list[str]:
    """Recipe keys that begin so; ``N`` stands for a place in a list, of which the first is offered."""
    keys = (key.replace(".N", ".0") for key in recipe_keys())
    return [f"{key}=" for key in keys if key.startswith(incomplete)]


RecipeArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", help="A recipe file, such as recipes/quickstart.yaml", autocompletion=complete_recipe
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY.PATH=VALUE]...", help="As in learner.learning_rate=1e-4", autocompletion=complete_override
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs in place of text.")]

Output = Annotated[Path | None, typer.Option("--output", help="A file to write; absent: stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Write over that file.")]


def write_out(text: str, output: Path | None, *, force: bool) -> None:
    """Print, or write to a file that is not there yet.

    Raises:
        UserError: it is there and ``force`` is off, or it cannot be written.
    """
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"--output {output} is there already. Name another file, or add --force") from None
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror}. Name another file") from error


@contextmanager
def reported(*, debug: bool, interrupted: str) -> Iterator[None]:
    """Turn what is raised within into one message on stderr and an exit code; a traceback only with ``debug``."""
    try:
        yield
    except typer.Exit:
        raise
    except GrpoError as error:
        raise _exit(f"error: {error}", error.exit_code, debug=debug) from error
    except KeyboardInterrupt as error:
        raise _exit(f"interrupted. {interrupted}", INTERRUPTED, debug=debug) from error
    except Exception as error:  # the one place that may: a user should not meet a traceback unasked
        hint = "" if debug else " (--debug shows the traceback)"
        raise _exit(f"unexpected error: {type(error).__name__}: {error}{hint}", 1, debug=debug) from error


def _exit(message: str, code: int, *, debug: bool) -> typer.Exit:
    if debug:
        traceback.print_exc()
    typer.echo(wrapped(message, shutil.get_terminal_size().columns) if sys.stderr.isatty() else message, err=True)
    return typer.Exit(code)


def wrapped(message: str, width: int) -> str:
    """Each line broken at spaces into lines of at most ``width``, as deep as it began; what has no spaces stays whole.

    >>> wrapped("error: no recipe at a.yaml", 16)
    'error: no recipe\\nat a.yaml'
    """
    return "\n".join(_wrapped_line(line, width) for line in message.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    depth = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line, width, subsequent_indent=depth, break_long_words=False, break_on_hyphens=False, expand_tabs=False
    )
