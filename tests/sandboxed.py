"""What tests of programs in the real sandbox share; they are skipped where this machine has none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rewards.code_tests import CodeTestsVerifier
from rewards.sandbox import Sandbox, SandboxUnavailableError


def skip_without_sandbox() -> None:
    """For the top of a module."""
    try:
        Sandbox().close()
    except SandboxUnavailableError as error:
        pytest.skip(f"no sandbox on this machine: {error}", allow_module_level=True)


def whole_answers(**arguments: Any) -> Callable[[], Iterator[CodeTestsVerifier]]:
    """A module's fixture: a verifier that takes all of an answer for the program."""

    @pytest.fixture(scope="module")
    def verifier() -> Iterator[CodeTestsVerifier]:
        verifier = CodeTestsVerifier(extract="whole", **arguments)
        yield verifier
        verifier.close()

    return verifier
