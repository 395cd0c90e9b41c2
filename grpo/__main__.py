"""``grpo``, from its first moment: an interrupt while the command line is still being imported is one line, too."""

import sys

INTERRUPTED = 130  # what a shell reports of a process ended by SIGINT


def main() -> None:
    try:
        from grpo.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(_interrupted())


def _interrupted() -> int:
    sys.stderr.write("interrupted before anything was done\n")
    return INTERRUPTED


if __name__ == "__main__":
    main()
