"""Somebody's own Python, by its file or by its module's name; what importing it raises passes through."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_file(path: Path, *, prefix: str) -> ModuleType:
    """The module in a file, whatever the file is called: ``prefix`` stands before its name, so math.py hides nothing.

    Its own imports are found beside it. A module whose import fails is not left half imported.
    """
    _search(path.parent)
    name = f"{prefix}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look a module up by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_module(name: str) -> ModuleType:
    """A module of an installed package, or of the working folder."""
    _search(Path.cwd())
    return importlib.import_module(name)


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
