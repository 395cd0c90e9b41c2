"""LiveCodeBench's private test cases: JSON text, pickled, compressed, in base64. A pickle is a program; none is run."""

import base64
import binascii
import io
import pickle
import zlib
from typing import Any, NoReturn

_MAX_BYTES = 1 << 29  # decompressed; the largest of LiveCodeBench takes some tens of MB


class _PlainUnpickler(pickle.Unpickler):
    """Loads what the pickle's own opcodes build. Every name that it would import is refused, hence every call."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}: only text is allowed")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("the pickle refers to something outside itself: only text is allowed")


def unpack(packed: str) -> str:
    """The text in ``packed``.

    >>> unpack(base64.b64encode(zlib.compress(pickle.dumps('[]'))).decode())
    '[]'

    Raises:
        ValueError: it is not base64 of compressed data, is too large, or the pickle holds anything but one text.
    """
    try:
        compressed = base64.b64decode(packed, validate=True)
        stream = zlib.decompressobj()
        pickled = stream.decompress(compressed, _MAX_BYTES)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"neither JSON nor compressed test cases ({error})") from error
    if not stream.eof:
        raise ValueError(f"test cases that are cut off, or take more than {_MAX_BYTES} bytes")
    try:
        value = _PlainUnpickler(io.BytesIO(pickled)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"a pickle that is no plain text: {error}") from error
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise ValueError(f"a pickle that holds a {type(value).__name__}, not a text")
    return value
