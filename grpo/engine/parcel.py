"""Tensors handed to other processes of this host through one file in shared memory, written once and read in place.

    bytes 0..23    the magic word, then offset and length of the index (little-endian, 64 bits each)
    ...            the tensors' bytes in the order they came, each at a multiple of 64
    offset         the index: JSON, one object per tensor with name, dtype, shape and offset

The index stands last because tensors are written as they come: no side ever holds the model a second time beside
the parcel. The head is written after all else, so a parcel that was not finished is not mistaken for one.
"""

import errno
import fcntl
import itertools
import json
import mmap
import os
import shutil
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from grpo.errors import EngineError
from grpo.weights import Tensors, fingerprint

SHARED_MEMORY = Path("/dev/shm")
ALIGNMENT = 64  # bytes: what vector instructions and torch's own allocator like
_PREFIX = "grpo-parcel-"
_MAGIC = b"grpo-p1\n"
_HEAD = struct.Struct("<8sQQ")
_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies.

    >>> Entry("lm_head.weight", "bfloat16", (97, 64), 64).num_bytes
    12416
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise EngineError(f"the parcel holds '{self.name}' as '{self.dtype}', which this torch does not know")
        return dtype


class Parcel:
    """The writing side: one file, which is written over at each publish and removed by ``close``.

    The file is locked for as long as its owner lives, so that those of owners that were killed can be told from
    those in use, and are removed when the next parcel is made.

    Args:
        folder: where the file lies; shared memory, or where there is too little of it a folder on disk.

    Attributes:
        hashes: the fingerprint of each tensor as written, by name; empty while nothing whole has been written.
        num_bytes: of all tensors.
    """

    def __init__(self, folder: Path = SHARED_MEMORY) -> None:
        remove_stale(folder)
        self.path, self._fd = _create(folder)
        self.hashes: dict[str, str] = {}
        self.num_bytes = 0

    def write(self, tensors: Tensors) -> None:
        """Write tensors as the iterator gives them. Nobody may be reading what was written before.

        Raises:
            EngineError: they do not fit; the message says how many bytes are needed and how many are free.
        """
        self.hashes, hashes = {}, {}
        index: list[Entry] = []
        end = _HEAD.size
        try:
            self._put(bytes(_HEAD.size), 0)
            with ThreadPoolExecutor(1) as hashing:  # beside the copying: neither holds the interpreter's lock
                for name, tensor in tensors:
                    whole = tensor.detach().contiguous().cpu()
                    dtype = str(whole.dtype).removeprefix("torch.")
                    index.append(Entry(name, dtype, tuple(whole.shape), _aligned(end)))
                    end = index[-1].offset + whole.nbytes
                    hashed = hashing.submit(fingerprint, whole)
                    self._put(_bytes_of(whole), index[-1].offset)
                    hashes[name] = hashed.result()
            text = json.dumps([asdict(entry) for entry in index]).encode()
            self._put(text, end)
            self._put(_HEAD.pack(_MAGIC, end, len(text)), 0)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise self._too_small(end, tensors) from None
        self.hashes, self.num_bytes = hashes, sum(entry.num_bytes for entry in index)

    def close(self) -> None:
        """Remove the file. Idempotent."""
        if self._fd >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def _put(self, data: bytes | memoryview, offset: int) -> None:
        """Written, not copied into a mapping: where memory is short a write fails, and a mapping kills the process."""
        rest = memoryview(data)
        while len(rest):
            written = os.pwrite(self._fd, rest, offset)
            rest, offset = rest[written:], offset + written

    def _too_small(self, end: int, rest: Tensors) -> EngineError:
        """The error that says what would have been needed; what was written is given back at once."""
        needed = end + sum(_aligned(tensor.nbytes) for _, tensor in rest)
        os.ftruncate(self._fd, 0)
        folder, free = self.path.parent, shutil.disk_usage(self.path.parent).free
        return EngineError(
            f"publishing needs {needed} bytes in {folder}, and {free} are free there. Enlarge it (mount -o "
            f"remount,size={(needed >> 20) + 1}M {folder}; in a container --shm-size), or let parcels lie elsewhere"
        )


def read_parcel(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor by name, as views of the file's own memory: valid until the next ``Parcel.write``.

    The mapping is private, so a reader that writes to a tensor changes nothing for the others.

    Raises:
        EngineError: the file is no parcel, or was not finished.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        magic, offset, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
        if magic != _MAGIC:
            raise EngineError(f"{path} holds no finished parcel of weights")
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for fields in json.loads(mapping[offset : offset + length]):
        entry = Entry(fields["name"], fields["dtype"], tuple(fields["shape"]), fields["offset"])
        yield entry.name, _view(mapping, entry)


def remove_stale(folder: Path) -> None:
    """Remove parcels whose owners are gone: a process that was killed leaves its file, but not its lock."""
    for path in folder.glob(f"{_PREFIX}*"):
        try:
            fd = os.open(path, os.O_RDWR)
        except (FileNotFoundError, PermissionError):  # removed meanwhile, or another user's
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(fd)


def _create(folder: Path) -> tuple[Path, int]:
    """A new file and its descriptor, locked. Another process may find it before the lock and remove it: then again."""
    while True:
        path = folder / f"{_PREFIX}{os.getpid()}-{next(_serial)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def _view(mapping: mmap.mmap, entry: Entry) -> torch.Tensor:
    if not entry.num_bytes:
        return torch.empty(entry.shape, dtype=entry.torch_dtype)
    flat = torch.frombuffer(mapping, dtype=torch.uint8, count=entry.num_bytes, offset=entry.offset)
    return flat.view(entry.torch_dtype).view(entry.shape)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
