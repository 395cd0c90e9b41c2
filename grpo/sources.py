"""Where rows come from: a .jsonl or .parquet file, or a dataset of the Hugging Face hub, by one path.

A folder is read as a hub dataset that was downloaded.

A row is a mapping of column names to values, as the file or the hub has them.
"""

import difflib
import gzip
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grpo.errors import DataError, MissingPackageError
from grpo.generators import GENERATORS
from grpo.recipe import DataSource

Row = Mapping[str, object]
FILE_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one source, with what names them.

    ``source`` names metrics (a file's stem, a hub id); ``id_prefix`` and the row's number make a problem's id.
    """

    source: str
    id_prefix: str
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that occurs in any row, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))


def read_table(source: DataSource, *, key: str) -> Table:
    """Read what ``source.path`` names; ``key`` is the recipe section that errors name.

    Raises:
        DataError: there is no such file or dataset, it cannot be read, or it has no rows.
    """
    path = Path(source.path).expanduser()
    suffix = next((suffix for suffix in FILE_SUFFIXES if path.name.endswith(suffix)), None)
    if suffix is None and _is_no_hub_id(source.path):
        raise DataError(
            f"{key}.path = {source.path!r}: no generator ({', '.join(GENERATORS)}), no {', '.join(FILE_SUFFIXES)} "
            "file, folder or hub id. Give the path of a data file of one of these kinds"
        )
    table = _read_hub(source, key) if suffix is None else _read_file(path, suffix, key)
    if not table.rows:
        raise DataError(f"{key}.path = {source.path!r}: the dataset is empty. Give one with at least one row")
    return Table(source=table.source, id_prefix=table.id_prefix, rows=table.rows[: source.limit])


def _is_no_hub_id(path: str) -> bool:
    if Path(path).expanduser().is_dir():
        return False
    return path.startswith(("/", ".", "~")) or path.count("/") > 1 or "\\" in path or Path(path).exists()


def _read_file(path: Path, suffix: str, key: str) -> Table:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        hint = f"Did you mean {str(path.parent / near[0])!r}?" if near else "Mend the path."
        raise DataError(f"{key}.path = {str(path)!r}: there is no such file. {hint}")
    rows = _read_parquet(path, key) if suffix == ".parquet" else tuple(_read_jsonl(path, key))
    name = path.name.removesuffix(suffix)
    return Table(source=name, id_prefix=name, rows=rows)


def _read_jsonl(path: Path, key: str) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_line(line, f"{key}.path = {str(path)!r}, line {number}")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{key}.path = {str(path)!r}: cannot be read after line {number}: {error}") from None


def _parse_line(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}). Mend or remove the line") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: a {type(row).__name__}, not an object. Each line must be an object of columns")
    return row


def _read_parquet(path: Path, key: str) -> tuple[Row, ...]:
    import pyarrow
    import pyarrow.parquet

    try:
        return tuple(pyarrow.parquet.read_table(path).to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{key}.path = {str(path)!r}: not a readable Parquet file ({_first_line(error)})") from None


def _read_hub(source: DataSource, key: str) -> Table:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise MissingPackageError(
            f"{key}.path = {source.path!r} is read as a hub id, which needs the package 'datasets'. "
            "Install it (pip install datasets), or give a file"
        ) from None
    try:
        with _quiet_retries():
            dataset = datasets.load_dataset(str(Path(source.path).expanduser()), name=source.subset, split=source.split)
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(_hub_message(source, key, error)) from None
    if source.limit is not None:
        dataset = dataset.select(range(min(source.limit, len(dataset))))
    name = Path(source.path).name if Path(source.path).expanduser().is_dir() else source.path
    return Table(source=name, id_prefix=f"{name}/{source.split}", rows=tuple(dataset))


def _hub_message(source: DataSource, key: str, error: Exception) -> str:
    near = difflib.get_close_matches(source.path, GENERATORS, n=1)
    hint = f"Did you mean the generator '{near[0]}'? Otherwise mend" if near else "Mend"
    subset = f", subset {source.subset!r}" if source.subset else ""
    return (
        f"{key}.path = {source.path!r}: no generator ({', '.join(GENERATORS)}), no file, and as a hub dataset "
        f"(split {source.split!r}{subset}) it cannot be loaded: {_first_line(error)}. {hint} the id, {key}.split or "
        f"{key}.subset; where there is no network, give a {', '.join(FILE_SUFFIXES)} file"
    )


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """Keep the hub client's warning per retry off the screen; the error that ends them says it once."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
