"""What the documents show: commands, files, snippets of Python and of recipes, each with its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = r"(grpo|make|python|pytest|torchrun|mkdocs|source|vllm|sbatch|pip install|\.venv/bin/python|\.ci/run)"
SHELL = ("", "bash", "sh", "console")  # languages of blocks whose lines may be commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Lines that belong together: a code block, fenced or indented, or a paragraph, whose language is None."""

    document: str
    line: int  # of the first of its lines
    language: str | None
    title: str  # of a fenced block: the file that it shows
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as it is written, on one line and without its comment."""

    place: str
    text: str


def blocks_in(text: str, document: str) -> Iterator[Block]:
    """Every block of a document.

    >>> [(block.language, block.line) for block in blocks_in("Do\\n\\n    make x\\n\\n```json\\n1\\n```\\n", "a.md")]
    [(None, 1), ('', 3), ('json', 6)]
    """
    lines, at = text.splitlines(), 0
    while at < len(lines):
        start, language, title = at, None, ""
        if fence := re.match(r'```(\w*)(?: title="(.+)")?', lines[at]):
            language, title = fence[1], fence[2] or ""
            start, at = at + 1, next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
            end, at = at, at + 1
        else:
            code = lines[at].startswith("    ")
            language = "" if code else None
            while at < len(lines) and lines[at].startswith("    ") == code and not _ends_paragraph(lines[at], code):
                at += 1
            end = at = max(at, start + 1)
        if any(line.strip() for line in lines[start:end]):
            body = "\n".join(lines[start:end])
            yield Block(document=document, line=start + 1, language=language, title=title, text=body)


def _ends_paragraph(line: str, code: bool) -> bool:
    return not code and (not line.strip() or line.startswith("```"))


def commands_in(block: Block) -> Iterator[Command]:
    """Lines of a shell's block that begin with a program, and inline code that does.

    >>> text = "    grpo check x.yaml \\\\\\n        seed=1  # a comment\\n"
    >>> [command.text for block in blocks_in(text, "a.md") for command in commands_in(block)]
    ['grpo check x.yaml seed=1']
    """
    if block.language is None:
        for span in re.finditer(r"`([^`]+)`", block.text):
            text = " ".join(span[1].replace("\\|", "|").split())
            if re.match(rf"{PROGRAMS} \S", text):
                yield Command(place=_place(block, span.start()), text=text)
    elif block.language in SHELL:
        for line in re.finditer(rf"^ *(?:\$ )?({PROGRAMS}(?: (?:.*\\\n)*.*)?)$", block.text, re.MULTILINE):
            text = re.sub(r" *\\\n *", " ", line[1])
            yield Command(place=_place(block, line.start()), text=re.sub(r"\s+#( .*)?$", "", text))


def _place(block: Block, offset: int) -> str:
    return f"{block.document}:{block.line + block.text[:offset].count(chr(10))}"


def all_blocks() -> list[Block]:
    return [
        block
        for path in DOCUMENTS
        for block in blocks_in(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]


def all_commands() -> list[Command]:
    """Each command once, where it is first shown."""
    first: dict[str, Command] = {}
    for block in all_blocks():
        for command in commands_in(block):
            first.setdefault(command.text, command)
    return list(first.values())
