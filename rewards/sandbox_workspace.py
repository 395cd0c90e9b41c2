"""Tier 2's folder for a program's files: measured while it runs, emptied after it.

A program's folders may be nested deeper than any path is long, and be closed to reading: nothing here recurses.
"""

import contextlib
import os
import stat

MAX_FILES = 1 << 10  # and folders
_TOO_MANY = MAX_FILES + 1  # nobody counts further: a look must stay short


def usage(folder: str) -> tuple[int, int]:
    """Bytes on disk, and the number of files and folders.

    A folder that cannot be looked into (closed, or nested too deep for a path) counts as one too many. Changing its
    mode would follow a link that the program may put in its place meanwhile.
    """
    num_bytes = num_files = 0
    pending = [folder]
    while pending and num_files < _TOO_MANY:
        try:
            statuses = _statuses(pending.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return num_bytes, _TOO_MANY
        num_files += len(statuses)
        num_bytes += sum(status.st_blocks for _, status in statuses) * 512
        pending += [path for path, status in statuses if stat.S_ISDIR(status.st_mode)]
    return num_bytes, num_files


def _statuses(folder: str) -> list[tuple[str, os.stat_result]]:
    """Of what is there; a file that is removed during the look must not hide the others."""
    statuses = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                statuses.append((entry.path, entry.stat(follow_symlinks=False)))
    return statuses


def empty(folder: str) -> None:
    """Remove everything within the folder; nobody may be writing in it."""
    prefix = os.path.join(folder, os.urandom(8).hex())  # a name that the program cannot have taken
    num_lifted = 0
    while names := os.listdir(folder):
        for name in names:
            path = os.path.join(folder, name)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                os.unlink(path)
                continue
            for inner in _opened(path):  # lift what is within, instead of descending
                num_lifted += 1
                os.rename(inner, f"{prefix}{num_lifted}")
            os.rmdir(path)


def _opened(folder: str) -> list[str]:
    """What is in the folder; folders among it can be moved afterwards, whatever their mode was."""
    os.chmod(folder, 0o700)
    inner = [os.path.join(folder, name) for name in os.listdir(folder)]
    for path in inner:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.chmod(path, 0o700)
    return inner
