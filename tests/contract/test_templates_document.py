"""docs/templates.md says word for word what the code does."""

import re
from pathlib import Path

from grpo.templates import CHAT, NAMED
from grpo.templates.jinja_file import JinjaFile

TEXT = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")


def test_every_template_stands_there_with_its_exact_text() -> None:
    shown = {}
    for block in re.finditer(r"```text\n(.*?)\n```", TEXT, re.DOTALL):
        shown[re.findall(r"^`(\w+)`", TEXT[: block.start()], re.MULTILINE)[-1]] = block[1]
    assert shown == {name: template.text for name, template in NAMED.items()}


def test_the_table_has_every_name_and_says_which_open_the_reasoning() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \|[^|]*\| ([^|]*) \|", TEXT, re.MULTILINE))
    assert rows.keys() >= {*NAMED, CHAT}
    opening = {name for name, begins in rows.items() if begins == "inside `<think>`"}
    assert opening == {name for name, template in NAMED.items() if template.opens_thinking}


def test_the_jinja_example_is_tinyzeros_prompt(tmp_path: Path) -> None:
    match = re.search(r"```jinja\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None
    file = tmp_path / "countdown.jinja"
    file.write_text(match[1], encoding="utf-8")
    asked = (
        "Using the numbers [3, 5, 7], create an equation that equals 26. You can use basic arithmetic operations "
        "(+, -, *, /) and each number can only be used once."
    )
    assert JinjaFile(str(file)).render({"nums": [3, 5, 7], "target": 26}) == NAMED["tinyzero"].render(asked)
