"""Where rows come from, by one path: a .jsonl or .parquet file, a folder, a function, a dataset of the hub.

A folder is one that ``datasets`` saved (``save_to_disk``), or else a hub dataset that was downloaded.

A row is a mapping of column names to values, as the file or the hub has them.
"""

import difflib
import gzip
import hashlib
import itertools
import json
import logging
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo.errors import DataError, MissingPackageError, as_written, did_you_mean_file, shortened
from grpo.generators import GENERATORS, is_generator
from grpo.loading_bar import with_bar
from grpo.recipe import DataSource
from grpo.row_function import RowFunction, is_function

Row = Mapping[str, object]
OTHER_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".arrow", ".zip", ".yaml", ".py")  # of files that are not read
FILE_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk writes, of several splits and of one
_REVISION = re.compile(r"@([0-9a-f]{40})\b")  # in the addresses of files that came from the hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one source, with what names them.

    ``source`` names metrics (a file's stem, a hub id); ``id_prefix`` and the row's number make a problem's id;
    ``origin`` says, by name, which state of the data was read: a file's SHA-256, the fingerprint and revision that
    ``datasets`` gives, the SHA-256 of a function's text.
    """

    source: str
    id_prefix: str
    rows: tuple[Row, ...]
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that occurs in any row, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))


def read_table(source: DataSource, *, key: str) -> Table:
    """Read what ``source.path`` names; ``key`` is the recipe section that errors name.

    Raises:
        DataError: there is no such file or dataset, it cannot be read, or it has no rows.
    """
    check_place(source, key=key)
    table = _read(source, key)
    if not table.rows:
        raise DataError(f"{key}.path = {source.path!r}: the dataset is empty. Give one with at least one row")
    return table


def _read(source: DataSource, key: str) -> Table:
    path = Path(source.path).expanduser()
    if is_function(source.path):
        return _read_function(source, key)
    suffix = next((suffix for suffix in FILE_SUFFIXES if path.name.endswith(suffix)), None)
    if suffix is not None and not path.is_dir():
        return _read_file(source, path, suffix, key)
    if any((path / name).is_file() for name in SAVED):
        return _read_saved(source, path, key)
    return _read_hub(source, key)


def _read_function(source: DataSource, key: str) -> Table:
    function = RowFunction(source.path, source.args, key=key)
    rows = tuple(with_bar(function.rows(source.limit), f"calling {source.path}", total=source.limit))
    digest = function.source_sha256
    origin = {} if digest is None else {"source_sha256": digest}
    return Table(source=function.name, id_prefix=function.name, rows=rows, origin=origin)


def _is_no_hub_id(path: str) -> bool:
    if "/" not in path and path.endswith(OTHER_SUFFIXES):
        return True
    return path.startswith(("/", ".", "~")) or path.count("/") > 1 or "\\" in path or Path(path).exists()


def _read_file(source: DataSource, path: Path, suffix: str, key: str) -> Table:
    lines = _read_parquet(path, key) if suffix == ".parquet" else _read_jsonl(path, key)
    rows = tuple(itertools.islice(with_bar(lines, f"reading {path.name}", total=source.limit), source.limit))
    name = path.name.removesuffix(suffix)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Table(source=name, id_prefix=name, rows=rows, origin={"sha256": digest})


def check_place(source: DataSource, *, key: str) -> None:
    """Refuse, without reading it, a path where nothing can be, a generator's name with a letter amiss, and arguments
    where nothing takes them.

    Raises:
        DataError: it is one of these.
    """
    path = Path(source.path).expanduser()
    if is_generator(source.path) or is_function(source.path):
        return
    near = difflib.get_close_matches(source.path, GENERATORS, n=1, cutoff=0.8)
    if near and not path.exists():
        raise DataError(
            f"{key}.path = {source.path!r}: there is no such generator; there are {', '.join(GENERATORS)}. "
            f"Did you mean '{near[0]}'?"
        )
    if source.path.endswith(FILE_SUFFIXES) and not path.exists():
        raise DataError(f"{key}.path = {str(path)!r}: there is no such file. {did_you_mean_file(path)}")
    if not path.is_dir() and not source.path.endswith(FILE_SUFFIXES) and _is_no_hub_id(source.path):
        raise DataError(
            f"{key}.path = {source.path!r}: no generator ({', '.join(GENERATORS)}), no {', '.join(FILE_SUFFIXES)} "
            "file, folder or hub id. Give the path of a data file of one of these kinds"
        )
    if source.args:
        raise DataError(
            f"{key}.args = {as_written(source.args)}: only a generator or a function takes arguments, and "
            f"{source.path!r} is neither. Remove them, as in {key}.args={{}}"
        )


def _read_jsonl(path: Path, key: str) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse_line(line, f"{key}.path = {str(path)!r}, line {number}")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{key}.path = {str(path)!r}: cannot be read after line {number}: {_first_line(error)}. Mend the file, or "
            "give another"
        ) from None


def _parse_line(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}). Mend or remove the line") from None
    except (ValueError, RecursionError) as error:  # of a number of thousands of digits, of brackets thousands deep
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number is too long"
        raise DataError(f"{where}: no row of data ({reason}). Mend or remove the line") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: {shortened(line.strip())} is no object of columns. Write one on each line, as in "
            '{"question": "1 + 1?", "answer": "2"}'
        )
    return row


def _read_parquet(path: Path, key: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{key}.path = {str(path)!r}: not a readable Parquet file ({_first_line(error)}). "
            "Write it again, or give another"
        ) from None


def _read_saved(source: DataSource, path: Path, key: str) -> Table:
    """A folder of ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{key}.path = {source.path!r}: what datasets saved there cannot be read ({_first_line(error)}). "
            "Save it again with save_to_disk"
        ) from None
    splits = found if isinstance(found, datasets.DatasetDict) else {_split_of(found) or source.split: found}
    if source.split not in splits:
        near = difflib.get_close_matches(source.split, splits, n=1) or list(splits)[:1]
        raise DataError(
            f"{key}.split = {source.split!r}: {source.path!r} holds {', '.join(splits)}. Set {key}.split to {near[0]}"
        )
    return _table(splits[source.split], source, path.name)


def _split_of(dataset: Any) -> str | None:
    """The split that a saved dataset was taken from: ``train`` also of ``train[:10%]``; None where it says none."""
    return None if dataset.split is None else re.split(r"[\[+]", str(dataset.split))[0]


def _table(dataset: Any, source: DataSource, name: str) -> Table:
    """The rows of a Dataset of ``datasets``."""
    if source.limit is not None:
        dataset = dataset.select(range(min(source.limit, len(dataset))))
    rows = tuple(with_bar(dataset, f"reading {name}", total=len(dataset)))
    return Table(source=name, id_prefix=f"{name}/{source.split}", rows=rows, origin=_origin_of(dataset))


def _origin_of(dataset: Any) -> dict[str, str]:
    addresses = " ".join(dataset.info.download_checksums or {})
    revision = _REVISION.search(addresses)
    return {"fingerprint": dataset._fingerprint} | ({"revision": revision[1]} if revision else {})


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
    name = Path(source.path).name if Path(source.path).expanduser().is_dir() else source.path
    return _table(dataset, source, name)


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
