"""Where this interpreter keeps what a program may read: its library, and the shared libraries that it loads."""

import os
import site
import sys
import sysconfig
from pathlib import Path

PREIMPORTED = (
    *("bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "io", "itertools"),
    *("json", "linecache", "math", "operator", "random", "re", "statistics", "string", "threading", "traceback"),
    *("types", "typing", "dataclasses", "enum", "array", "cmath", "numbers", "time", "abc", "contextlib"),
)


def add_packages() -> None:
    """What ``site`` does for an interpreter, but for ``.pth`` files: those name folders of anybody's, and run code.

    An editable install into an interpreter without a virtual environment would else open its whole repository.
    """
    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.path += [folder for folder in site.getsitepackages() if folder not in sys.path and os.path.isdir(folder)]


def readable_paths() -> list[str]:
    """Absolute paths of existing folders, none within another; links are kept as they are spelled on ``sys.path``."""
    found = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "/usr/share/zoneinfo"}
    found |= {path for path in sys.path if path}
    found |= {str(Path(line.split()[5]).parent) for line in _mapped_files() if ".so" in line}
    folders = sorted(path for path in map(os.path.abspath, found) if os.path.isdir(path) and path != "/")
    return [path for path in folders if not any(path.startswith(other + "/") for other in folders)]


def _mapped_files() -> list[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if len(line.split()) == 6 and line.split()[5].startswith("/")]
