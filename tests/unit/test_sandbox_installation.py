"""What a program may read, and run, of the interpreter that it runs in: wherever it is installed, and no more of it."""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.sandbox import RunStatus, Sandbox, SandboxLimits, SandboxUnavailableError

PATIENT = SandboxLimits(cpu_s=20.0, wall_s=120.0)  # for a machine under load
LEFT_OUT = ("site-packages", "test", "tests", "__pycache__", "idlelib", "lib2to3", "tkinter", "ensurepip", "config-*")
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In /tmp, where a program's own files lie, too."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def python(folder: Path) -> str:
    """An installation of its own, with a package, and with a ``.pth`` file that names a repository."""
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    copy = folder / "python" / "bin" / base.name
    copy.parent.mkdir(parents=True)
    shutil.copy2(base, copy)
    library = folder / "python" / "lib" / VERSION
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (library / "site-packages").mkdir()
    (library / "site-packages" / "added.py").write_text("answer = 42\n")
    (folder / "repository").mkdir()
    (folder / "repository" / "secret.py").write_text("answer = 43\n")
    hook = f"{folder / 'repository'}\nimport sys; sys.hooked = True\n"
    (library / "site-packages" / "editable.pth").write_text(hook)
    check = "import secret, sys; print(sys.prefix, sys.hooked)"
    done = subprocess.run([copy, "-c", check], capture_output=True, text=True, check=False)
    if done.stdout != f"{folder / 'python'} True\n":
        pytest.skip(f"this Python cannot be copied: {done.stdout}{done.stderr}")
    return str(copy)


@pytest.fixture(scope="module", params=[1, 2])
def sandbox(request: pytest.FixtureRequest, python: str) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys._base_executable", python)
        try:
            Sandbox(tier=request.param).close()
        except SandboxUnavailableError as error:
            if "File exists" in str(error):
                raise
            pytest.skip(str(error))
        with Sandbox(tier=request.param) as box:
            yield box


def test_python_may_be_installed_in_the_folder_of_temporary_files(sandbox: Sandbox, folder: Path) -> None:
    outcome = sandbox.run("import sys, html.entities\nprint(sys.prefix)", limits=PATIENT)
    assert (outcome.status, outcome.stdout) == (RunStatus.FINISHED, f"{folder / 'python'}\n"), outcome.error
    writes = "import tempfile\nwith tempfile.TemporaryFile() as file: print(file.write(b'abc'))"
    assert sandbox.run(writes, limits=PATIENT).stdout == "3\n"
    assert sandbox.run(f"open('{folder}/python/x', 'w')", limits=PATIENT).status is RunStatus.RUNTIME_ERROR


def test_the_installations_packages_can_be_imported(sandbox: Sandbox) -> None:
    assert sandbox.run("import added\nprint(added.answer)", limits=PATIENT).stdout == "42\n"


def test_what_a_pth_file_names_is_neither_read_nor_run(sandbox: Sandbox, folder: Path) -> None:
    reads = sandbox.run(f"print(open('{folder}/repository/secret.py').read())", limits=PATIENT)
    assert (reads.status, reads.stdout) == (RunStatus.RUNTIME_ERROR, "")
    imports = sandbox.run("import secret", limits=PATIENT)
    assert imports.error == "ModuleNotFoundError: No module named 'secret'"
    assert sandbox.run("import sys\nprint(hasattr(sys, 'hooked'))", limits=PATIENT).stdout == "False\n"


def test_the_names_that_site_gives_are_there(sandbox: Sandbox) -> None:
    code = "import builtins\nprint(*(name for name in ('exit', 'quit', 'help') if hasattr(builtins, name)))\nexit()"
    assert sandbox.run(code, limits=PATIENT).stdout == "exit quit help\n"
