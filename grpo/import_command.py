"""``grpo import``: trl, verl."""

import json
from pathlib import Path
from typing import Annotated

import typer

from grpo.command import AsJson, Debug, Force, Output, reported, write_out

app = typer.Typer(help="Recipes from the configurations of other trainers.", no_args_is_help=True)

PeerConfig = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A file; see docs/from_trl.md and docs/from_verl.md")
]


@app.command("trl")
def import_trl(
    config: PeerConfig,
    output: Output = None,
    force: Force = False,
    num_processes: Annotated[int, typer.Option("--num-processes", min=1, help="Of TRL's learner, as launched.")] = 1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Translate a YAML, JSON or Python configuration of TRL or open-r1; what became of each key goes to stderr.

    Example: grpo import trl config_demo.yaml --num-processes 8 --output mine.yaml
    """
    _translate("trl", config, output, force=force, as_json=as_json, num_processes=num_processes, debug=debug)


@app.command("verl")
def import_verl(
    config: PeerConfig, output: Output = None, force: Force = False, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Translate a YAML configuration of verl, or a script that starts it; what became of each key goes to stderr.

    Example: grpo import verl run_qwen2-7b.sh --output mine.yaml
    """
    _translate("verl", config, output, force=force, as_json=as_json, num_processes=1, debug=debug)


def _translate(
    peer: str, config: Path, output: Path | None, *, force: bool, as_json: bool, num_processes: int, debug: bool
) -> None:
    with reported(debug=debug, interrupted="Nothing was written."):
        from grpo.peers import PEERS, translate
        from grpo.peers.report import report_lines, to_json

        done = translate(PEERS[peer], config, num_processes=num_processes)
        write_out(json.dumps(to_json(done), default=str) + "\n" if as_json else done.text, output, force=force)
        for line in report_lines(done):
            typer.echo(line, err=True)
