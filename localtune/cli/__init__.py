"""The command line: results on stdout, talk on stderr, exit codes as part of the interface.

0 ok, 1 the run failed, 2 input, 3 environment, 4 resources, 130/143 stopped with a checkpoint. A sub-command's module
is imported when it is named, so that `localtune --help` answers at once. Nothing that `localtune.redacted` takes for a
token is printed. The home folder is `~` but where programs read: in JSON, in what `path` verbs print, and in the paths
of products on a stdout that is no terminal.
"""

import errno
import importlib
import os
import sys

import click

from localtune import __version__
from localtune.cli.leaving import leaving_on_signals
from localtune.errors import LocaltuneError, Problem
from localtune.redacted import guard

COMMANDS = {
    "run": "run:run",
    "plan": "plan:plan",
    "init": "recipes:init",
    "data": "data:data",
    "runs": "runs:runs",
    "tail": "runs:tail",
    "stop": "runs:stop",
    "eval": "evaluate:evaluate",
    "fuse": "fuse:fuse",
    "export": "export:export_command",
    "push": "push:push_command",
    "merge": "merge:merge_command",
    "chat": "chat:chat",
    "serve": "serve:serve",
    "recipes": "recipes:recipes",
    "schema": "recipes:schema",
    "doctor": "doctor:doctor",
    "tui": "tui:tui",
}
"""Verb -> module:function in this package, in the order help shows them."""

SUMMARIES = {
    "run": "Train from a recipe or a file of examples.",
    "plan": "Say what a run would do, need and write; nothing is started.",
    "init": "Write a commented recipe for a file of examples.",
    "data": "Check, show, convert, split and mix rows of data.",
    "runs": "List, show, compare, report, find and remove runs.",
    "tail": "Follow a run from any terminal.",
    "stop": "Ask a run to save and stop.",
    "eval": "Measure base and tuned model on held-out rows.",
    "fuse": "Put an adapter into the base's own weights.",
    "export": "Write GGUF files and prove that they say what was trained.",
    "push": "Send a product to the Hugging Face hub, privately.",
    "merge": "Make one adapter of several of the same base.",
    "chat": "Talk to a run, a GGUF file or a model folder.",
    "serve": "Serve a GGUF file to programs that speak OpenAI's API.",
    "recipes": "List and show the recipes that come with localtune.",
    "schema": "JSON Schema of a recipe, for editors.",
    "doctor": "Say what is installed and missing here, and how to mend it.",
    "tui": "Open the full-screen app, as `localtune` alone does.",
}


class _Lazy(click.Group):
    """Imports a command when it is named; help needs only the summaries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"localtune.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A folder in place of a verb is a run that the app opens."""
        if args and args[0] not in COMMANDS and os.path.isdir(args[0]):
            args = ["tui", *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(
    cls=_Lazy,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="localtune %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--ascii", "only_ascii", is_flag=True, help="Draw the app with ASCII characters only.")
@click.pass_context
def localtune(ctx: click.Context, debug: bool, only_ascii: bool) -> None:
    """Fine-tune a language model on your own machine, and get exactly the model you trained."""
    if debug:
        os.environ["LOCALTUNE_DEBUG"] = "1"
    ctx.default_map = {"tui": {"only_ascii": only_ascii}}
    if ctx.invoked_subcommand is None:
        _open_app(ctx, only_ascii)
    elif only_ascii and ctx.invoked_subcommand != "tui":
        raise click.UsageError(f"--ascii is for the app, not for {ctx.invoked_subcommand}", ctx)


def _open_app(ctx: click.Context, only_ascii: bool) -> None:
    """The app for who sits at a terminal; help, and exit code 2, for everybody else."""
    app = importlib.import_module("localtune.cli.tui")
    if not app.on_terminal():
        raise click.exceptions.NoArgsIsHelpError(ctx)
    ctx.invoke(app.tui, folder=None, only_ascii=only_ascii)


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    guard()
    out = sys.stdout
    try:
        with leaving_on_signals():
            code = localtune.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except SystemExit as end:
        code = end.code
        if sys.stdout is not out:  # click's way to end with 1 where nobody reads what is said
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            code = 0
    except LocaltuneError as error:
        if os.environ.get("LOCALTUNE_DEBUG"):
            raise
        click.echo(str(error), err=True)
        code = error.exit_code
    except OSError as error:
        if os.environ.get("LOCALTUNE_DEBUG"):
            raise
        click.echo(str(Problem("system", str(error.strerror or error), where=str(error.filename or ""))), err=True)
        code = 4 if error.errno == errno.ENOSPC else 3
    except Exception as error:
        if os.environ.get("LOCALTUNE_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        fix = "localtune --debug … shows where; please report it"
        click.echo(str(Problem("internal", what, fix=fix)), err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
