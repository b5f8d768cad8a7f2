# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

"""The application that finds the commands and turns errors into one line and a status."""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from cliff.app import App
from cliff.commandmanager import CommandManager

NAME = "nova-devcompat"
FAILED = 1
BAD_INPUT = 2
PIPE_CLOSED = 141  # as a shell reports SIGPIPE
INTERRUPTED = 130  # and SIGINT


def version() -> str:
    """The release that is installed."""
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


class NovaDevcompat(App):
    """``nova-devcompat``: 0 for done, 2 for bad input, 130 where it was stopped, 1 for anything
    else that went wrong.
    """

    NAME = NAME
    LOG = logging.getLogger(NAME)

    def __init__(self, **streams: Any) -> None:
        super().__init__(
            description="Questions about device versions in a cloud.",
            # So that --help behind a command is about that command.
            deferred_help=True,
            version=version(),
            command_manager=CommandManager("nova_devcompat.cli"),
            **streams,
        )
        self.bad_input = False

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        parser = super().build_option_parser(
            description, version, {"prog": NAME, "conflict_handler": "resolve"}
        )
        # cliff's own is named after the process, which may be a test runner.
        parser.add_argument(
            "--version",
            action="version",
            version=f"{NAME} {version}",
            help="Show the version and exit.",
        )
        return parser

    def interact(self) -> None:
        # Without a command cliff would open a shell of its own.
        self.bad_input = True
        if self.stderr is not None:
            self.parser.print_help(self.stderr)
            names = sorted(name for name, _ in self.command_manager)
            self.stderr.write("\nCommands:\n" + "".join(f"  {name}\n" for name in names))

    def clean_up(self, cmd: object, result: int, err: BaseException | None) -> None:
        # Commands raise ValueErrors for what an operator typed, and cliff has printed it.
        self.bad_input = isinstance(err, ValueError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nova-devcompat``.

    :param argv: the arguments; None for those of the process
    :returns: the exit status
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        app = NovaDevcompat(stdout=_output())
        status = app.run(list(sys.argv[1:] if argv is None else argv))
        status = BAD_INPUT if app.bad_input else status
        return status if _is_written(app, said=status != 0) else status or FAILED
    except SystemExit as stop:  # argparse
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        return _reader_went()
    except KeyboardInterrupt:  # older versions of cliff leave it to us
        return INTERRUPTED
    finally:
        # cliff adds to the root logger of whoever calls us.
        root.setLevel(level)
        for handler in root.handlers[:]:
            if handler not in handlers:
                root.removeHandler(handler)


class _Closed(io.StringIO):
    """What stands for a standard output that whoever started us has closed."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


def _output() -> TextIO:
    """Standard output, on which any text can be written whatever its encoding."""
    if sys.stdout is None:
        # Formatters look at it, too.
        sys.stdout = _Closed()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # As what no terminal prints is spelled out, see nova_devcompat.cli.formatters.
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def _is_written(app: App, *, said: bool) -> bool:
    """Whether all output has got where it should.

    :param said: whether the operator was told already that something is wrong
    :raises BrokenPipeError: nobody reads it any more
    """
    try:
        app.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if not said:
            app.LOG.error("the output cannot be written: %s", error.strerror)
        _forget_the_rest()
        return False
    return True


def _reader_went() -> int:
    """``... | head`` took what it wanted."""
    _forget_the_rest()
    return PIPE_CLOSED


def _forget_the_rest() -> None:
    """Drop what is left of the output: no reason for Python to complain when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
