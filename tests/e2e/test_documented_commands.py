"""Every command in README.md, CONTRIBUTING.md and docs/ is run where a CPU can run it; so are snippets and files.

``RULES`` says what becomes of a command; one that no rule knows fails, with its place. Commands run in a scratch folder
that has links to the repository and the files that the documents themselves show. They share one short run.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from grpo.cli import app
from grpo.peers import PEERS
from grpo.recipe import SHIPPED, parse_recipe
from tests.e2e.documents import ROOT, Block, Command, all_blocks, all_commands, blocks_in, commands_in
from tests.factories import TWO_STEPS

RUN, TRAIN, CHECKED, HELP, COLLECT, FLAGS, DRY, EXTRA, ELSEWHERE = (
    "run as it stands",
    "trained, by a few steps",
    "checked, which proves its keys",
    "its help is shown",
    "its tests are collected",
    "its flags are looked up",
    "looked at with make -n",
    "the extra is in pyproject.toml",
    "not here",
)
# The first rule that matches the whole command is its kind. Behind ELSEWHERE stands why.
RULES = (
    (r"source \.venv/bin/activate", ELSEWHERE),  # makes nothing: `make install` does
    (r"\.ci/run", ELSEWHERE),  # runs this test
    (r"vllm serve", ELSEWHERE),  # a mention
    (r"grpo --install-completion", ELSEWHERE),  # writes into the user's shell
    (r"make .*", DRY),
    (r"pip install 'grpo\[.*\]'", EXTRA),
    (r"((\.venv/bin/)?python -m )?pytest .*", COLLECT),
    (r"python benchmarks/.*", FLAGS),
    (r"torchrun .*", CHECKED),  # several nodes
    (r"grpo train .*(num_gpus=[1-9]|model=FOLDER).*", CHECKED),  # GPUs, or a model that is not in the package
    (r"grpo train recipes/quickstart\.yaml", RUN),  # the run that the others look at
    (r"grpo train \S+.*", TRAIN),
    (r"grpo doctor|grpo runs list", RUN),
    (r"grpo( [a-z]+){1,2}|grpo .*--help", HELP),  # a mention
    (r"grpo .*", RUN),
    (r"vllm serve \$\(.*\)", RUN),  # what is within: the checkpoint's path
)
FILLED = {
    r"\.\.\.|RECIPE|(?<=--recipe )FILE\b": "recipes/quickstart.yaml",
    r"FILE\.py:FUNCTION": "my_rewards.py:exact",
    r"\bRUN\b": "runs/a",
    r"\bMODEL\b": "tiny-base",
    r"\bFOLDER\b": "HuggingFaceTB/SmolLM2-135M-Instruct",
    r"=N\b": "=1",
    r"\bgsm8k_train\.jsonl": "my_problems.jsonl",
    r"\bCOMMAND\b": "train",
}
SMALLER = {
    r"--step \d+": "--step 1",
    r"--verify \d+": "--verify 1",
    r"\| sbatch$": "| bash -n",  # Slurm's part is to read the script
    r"^vllm serve ": "ls -d ",
}
SHORT = TWO_STEPS | {"data.num_held_out": 2}
SHORTER = " ".join(f"{key}={value}" for key, value in SHORT.items())
QUICK = {  # of those that start an engine
    "grpo train recipes/quickstart.yaml",
    'grpo sample runs/quickstart "12+7-3"',
    "grpo replay runs/quickstart --verify 1",
}
HEAVY = r"grpo (train|eval|sample|doctor|replay .*--(step|verify)).*"  # start an engine, or import vLLM
LIGHT = r"grpo (check|plan|data|schema|import|runs|checkpoint|launch) [^|$]*|grpo .*--help"  # start nothing
MENDING = {"grpo doctor"}  # may find something to mend on this machine, which is exit code 1
COMMANDS = all_commands()


def kind_of(command: Command) -> str | None:
    return next((kind for pattern, kind in RULES if re.fullmatch(pattern, command.text)), None)


def filled(text: str) -> str:
    for pattern, value in (FILLED | SMALLER).items():
        text = re.sub(pattern, value, text)
    return text


def _is_slow(command: Command) -> bool:
    heavy = re.fullmatch(HEAVY, command.text) is not None and kind_of(command) in (RUN, TRAIN)
    return heavy and command.text not in QUICK


def of_kind(kind: str) -> list[Any]:
    """Those of a kind; of several that are one command once they are filled in, the first."""
    chosen: dict[str, Command] = {}
    for command in COMMANDS:
        if kind_of(command) == kind:
            chosen.setdefault(filled(command.text), command)
    return [
        pytest.param(command, id=command.place, marks=[pytest.mark.slow] * _is_slow(command))
        for command in sorted(chosen.values(), key=_is_slow)
    ]


def in_shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a user's shell would run it, in a folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def in_this_process(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same without a shell, for commands that start nothing: a tenth of the time."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, shlex.split(text)[1:])
    return subprocess.CompletedProcess(text, result.exit_code, result.stdout, result.stderr)


def succeeds(text: str, folder: Path, *, codes: tuple[int, ...] = (0,)) -> str:
    done = (in_this_process if re.fullmatch(LIGHT, text) else in_shell)(text, folder)
    said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert done.returncode in codes, f"{text}: exit code {done.returncode}\n{said}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: the repository's folders, the files that the documents show, two configurations."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("recipes", "docs", "tests", "benchmarks", "grpo", "rewards"):
        (folder / name).symlink_to(ROOT / name)
    for block in all_blocks():
        if block.title and not (folder / block.title).exists():
            (folder / block.title).write_text(block.text + "\n", encoding="utf-8")
    (folder / "CONFIG.yaml").write_text(PEERS["trl"].example, encoding="utf-8")
    (folder / "CONFIG.sh").write_text(PEERS["verl"].example, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def with_runs(scratch: Path) -> Path:
    """The same with the quickstart's run, made shorter, and copies of it under the names that documents use."""
    pytest.importorskip("vllm", reason="needs vLLM (pip install 'grpo[cpu]')")
    succeeds(f"grpo train recipes/quickstart.yaml {SHORTER}", scratch)
    for name in ("a", "b", "mine"):
        shutil.copytree(scratch / "runs" / "quickstart", scratch / "runs" / name)
    return scratch


def test_every_command_has_a_kind() -> None:
    assert len(COMMANDS) > 100
    assert [f"{command.place}: {command.text}" for command in COMMANDS if kind_of(command) is None] == []


def test_every_rule_is_used() -> None:
    used = [
        next((i for i, (pattern, _) in enumerate(RULES) if re.fullmatch(pattern, command.text)), None)
        for command in COMMANDS
    ]
    assert set(range(len(RULES))) - set(used) == set()


@pytest.mark.parametrize("command", of_kind(RUN))
def test_it_runs(command: Command, scratch: Path, request: pytest.FixtureRequest) -> None:
    if re.search(r"\bruns\b|RUN|^grpo train", command.text):
        request.getfixturevalue("with_runs")
    if command.text == "grpo train recipes/quickstart.yaml":
        lines = (scratch / "runs" / "quickstart" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1])["step"] == 2
        return
    for made in ("translated.yaml", "recipe.schema.json"):
        (scratch / made).unlink(missing_ok=True)
    out = succeeds(filled(command.text), scratch, codes=(0, 1) if command.text in MENDING else (0,))
    assert out.strip() or "--output" in command.text or command.text.endswith("sbatch")
    if "--json" in command.text:
        json.loads(out)


@pytest.mark.parametrize("command", of_kind(TRAIN))
def test_it_trains(command: Command, scratch: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs vLLM (pip install 'grpo[cpu]')")
    text = f"{filled(command.text).replace(' --resume', '')} {SHORTER} --output-dir {tmp_path / 'run'}"
    succeeds(text, scratch)
    if command.text.endswith("--resume"):
        succeeds(f"{text} max_steps=3 --resume", scratch)
    last = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last)["step"] == (3 if command.text.endswith("--resume") else 2)


@pytest.mark.parametrize("command", of_kind(CHECKED))
def test_its_keys_are_right(command: Command, scratch: Path) -> None:
    arguments = filled(command.text).partition(" train ")[2]
    assert "# memory" in succeeds(f"grpo check {arguments}", scratch)


@pytest.mark.parametrize("command", of_kind(HELP))
def test_its_help_is_shown(command: Command, scratch: Path) -> None:
    text = filled(command.text).removesuffix(" --help")
    assert "Usage: " in succeeds(f"{text} --help", scratch)


@pytest.mark.parametrize("command", of_kind(DRY))
def test_make_knows_it(command: Command) -> None:
    assert succeeds(command.text.replace("make", "make -n", 1), ROOT).strip()


@pytest.mark.parametrize("command", of_kind(EXTRA))
def test_the_extra_is_there(command: Command) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert re.findall(r"\[(.*)\]", command.text)[0] in extras


# One interpreter looks at all of them, since each imports torch. To collect every test takes most of a minute.
COLLECTING = """
import contextlib, io, json, sys, pytest
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = pytest.main([*arguments, "--collect-only", "-q", "-p", "no:cacheprovider"])
    print(int(code))
"""
HELPING = """
import contextlib, io, json, runpy, sys
sys.path.insert(0, "benchmarks")
for script in json.load(sys.stdin):
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    print(json.dumps(out.getvalue()))
"""


def in_one_interpreter(code: str, given: object) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_commands_of_pytest_find_tests() -> None:
    commands = [command for command in COMMANDS if kind_of(command) == COLLECT]
    arguments = [shlex.split(command.text.partition("pytest ")[2]) for command in commands]
    globbed = [[path for word in each for path in _globbed(word)] for each in arguments]
    codes = in_one_interpreter(COLLECTING, globbed)
    assert [command.place for command, code in zip(commands, codes, strict=True) if code != 0] == []


def _globbed(word: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(word)) if "*" in word else [word]


def test_benchmarks_have_the_flags_that_are_named() -> None:
    commands = [(command, *shlex.split(command.text)[1:]) for command in COMMANDS if kind_of(command) == FLAGS]
    scripts = sorted({script for _, script, *_ in commands})
    helps = dict(zip(scripts, in_one_interpreter(HELPING, scripts), strict=True))
    assert all("usage:" in text for text in helps.values())
    unknown = [
        f"{command.place}: {word}"
        for command, script, *words in commands
        for word in words
        if word.startswith("--") and word not in helps[script]
    ]
    assert unknown == []


def _marked(block: Block) -> Any:
    return pytest.param(block, id=block.place, marks=[pytest.mark.slow] * ("grpo.train" in block.text))


BLOCKS = all_blocks()
SNIPPETS = [_marked(block) for block in BLOCKS if block.language == "python" and not block.title]
FRAGMENTS = [pytest.param(block, id=block.place) for block in BLOCKS if block.language == "yaml" and not block.title]


@pytest.mark.parametrize("block", SNIPPETS)
def test_a_snippet_of_python_runs(block: Block, scratch: Path, tmp_path: Path) -> None:
    folder = tmp_path / "user"
    shutil.copytree(scratch, folder, symlinks=True, ignore=shutil.ignore_patterns("runs"))
    code = block.text.replace('.yaml", {', f'.yaml", {{**{SHORT!r}, ')
    (folder / "snippet.py").write_text(code + "\n", encoding="utf-8")
    succeeds("python snippet.py", folder)


@pytest.mark.parametrize("block", FRAGMENTS)
def test_a_part_of_a_recipe_is_accepted(block: Block, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scratch)  # where the files are that it names
    whole = yaml.safe_load((SHIPPED / "smollm2_gsm8k.yaml").read_text(encoding="utf-8"))
    parse_recipe(yaml.safe_dump(whole | yaml.safe_load(block.text)))


def test_a_file_that_is_shown_twice_is_one_file() -> None:
    """README.md and the quickstart; docs/rewards.md shows a part of my_rewards.py."""
    shown: dict[str, set[str]] = {}
    for block in BLOCKS:
        if block.title and block.document != "docs/rewards.md":
            shown.setdefault(block.title, set()).add(block.text)
    assert shown.keys() >= {"my_problems.jsonl", "my_rewards.py", "my_recipe.yaml", "my_data.py"}
    assert {title for title, texts in shown.items() if len(texts) > 1} == set()
    part = next(block for block in BLOCKS if block.document == "docs/rewards.md" and block.title)
    assert part.text in next(iter(shown[part.title]))


def test_blocks_and_commands_are_found_as_they_stand() -> None:
    text = (
        "Run `grpo check RECIPE` or `grpo` or `grpo\nplan RECIPE`.\n\n"
        "    $ grpo runs list   # all\n    grpo train a.yaml \\\n        seed=1\n    runs/a\n\n"
        '```python title="a.py"\ngrpo train\n```\n'
    )
    blocks = list(blocks_in(text, "a.md"))
    assert [(block.line, block.language, block.title) for block in blocks] == [
        (1, None, ""),
        (4, "", ""),
        (10, "python", "a.py"),
    ]
    assert [(command.place, command.text) for block in blocks for command in commands_in(block)] == [
        ("a.md:1", "grpo check RECIPE"),
        ("a.md:1", "grpo plan RECIPE"),
        ("a.md:4", "grpo runs list"),
        ("a.md:5", "grpo train a.yaml seed=1"),
    ]


def test_the_site_is_built(tmp_path: Path) -> None:
    """Strict: a page that is missing in the navigation, or a link that leads nowhere, fails."""
    pytest.importorskip("material", reason="needs mkdocs-material (pip install 'grpo[docs]')")
    succeeds(f"python -m mkdocs build --strict --site-dir {tmp_path / 'site'}", ROOT)
    assert (tmp_path / "site" / "quickstart" / "index.html").exists()
