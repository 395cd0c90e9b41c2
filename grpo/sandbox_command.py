"""``grpo sandbox``: serve."""

from typing import Annotated

import typer

from grpo.command import Debug, reported
from grpo.errors import UserError

app = typer.Typer(help="The sandbox for programs that a model wrote.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Keeps the command's name: a group of one would lose it."""


@app.command("serve")
def sandbox_serve(
    host: Annotated[str, typer.Option("--host", help="Other than loopback needs GRPO_SANDBOX_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8080,
    num_workers: Annotated[int, typer.Option("--num-workers", help="Programs at a time.")] = 2,
    max_queue: Annotated[int, typer.Option("--max-queue", help="Programs that may wait; beyond, 503.")] = 256,
    debug: Debug = False,
) -> None:
    """Run programs for others over HTTP: SandboxFusion's contract, for Python.

    Example: grpo sandbox serve --port 8080 --num-workers 4
    """
    with reported(debug=debug, interrupted="Served to the end."):
        from rewards.sandbox import SandboxUnavailableError
        from rewards.sandbox_server import serve

        try:
            serve(
                host,
                port,
                num_workers=num_workers,
                max_queue=max_queue,
                on_ready=lambda server: typer.echo(f"taking programs at {server.url}"),
            )
        except (ValueError, OSError, SandboxUnavailableError) as error:
            raise UserError(f"the sandbox cannot be served at {host}:{port}: {error}") from error
