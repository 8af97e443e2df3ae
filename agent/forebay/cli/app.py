"""The `forebay` command: a table of commands, each imported only when it is used.

Exit codes: 0 ok, 1 failed, 2 bad usage or bad configuration, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from forebay.errors import ConfigError, ForebayError
from forebay.nearest import nearest

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


class Entry(NamedTuple):
    """Where a command is, and its line in `--help`."""

    target: str
    help: str
    group: str


GROUPS = ("Run", "Configure", "Look inside", "Tools")

COMMANDS: dict[str, Entry] = {
    "run": Entry("forebay.cli.run:run_command", "Run the agent.", "Run"),
    "receive": Entry("forebay.cli.receive:receive_command", "Run the central receiver.", "Run"),
    "demo": Entry(
        "forebay.cli.demo:demo_command", "Show the whole road on recorded data, on this machine.", "Run"
    ),
    "check": Entry(
        "forebay.cli.check:check_command", "Check a configuration; every error at once.", "Configure"
    ),
    "config": Entry(
        "forebay.cli.config:config_group", "Bring a file of an older release up to date.", "Configure"
    ),
    "schema": Entry(
        "forebay.cli.schema:schema_command", "Print the JSON Schema of a configuration.", "Configure"
    ),
    "keys": Entry("forebay.cli.keys:keys_group", "Make, enroll, revoke and rotate keys.", "Configure"),
    "models": Entry(
        "forebay.cli.models:models_group", "List, verify, install and roll back models.", "Configure"
    ),
    "status": Entry("forebay.cli.status:status_command", "Say how a running agent is.", "Look inside"),
    "replay": Entry(
        "forebay.cli.replay:replay_command",
        "Run a recording through one or two configurations.",
        "Look inside",
    ),
    "support": Entry(
        "forebay.cli.support:support_command", "Pack what a supporter needs, no data in it.", "Look inside"
    ),
    "top": Entry("forebay.cli.top:top_command", "Show what flows in a running agent.", "Look inside"),
    "tap": Entry("forebay.cli.tap:tap_command", "Show rows as they go to the spool.", "Look inside"),
    "reload": Entry(
        "forebay.cli.reload:reload_command", "Let a running agent take over its changed configuration.", "Run"
    ),
    "spool": Entry("forebay.cli.spool:spool_group", "Examine, repair and export a spool.", "Look inside"),
    "audit": Entry("forebay.cli.audit:audit_group", "Verify and report what masking did.", "Look inside"),
    "decode": Entry("forebay.cli.decode:decode_command", "Print a wire batch as JSON lines.", "Look inside"),
    "mask": Entry("forebay.cli.mask:mask_command", "Mask text, tables, pictures or video.", "Tools"),
    "infer": Entry("forebay.cli.infer:infer_command", "Run one model on a file.", "Tools"),
}


_OF_THE_DISK = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENAMETOOLONG,
        errno.EFBIG,
    }
)
"""What the machine says of files and disks: the user's to mend, not a bug of ours."""


class LazyGroup(click.Group):
    """A click group that knows its commands by name and imports them on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Raises UsageError if this build lacks it."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else load_command(cmd_name, entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of `args`. An unknown one is answered with the nearest known."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = nearest(args[0], COMMANDS)
            hint = f"Did you mean '{near}'?" if near else "`forebay --help` lists the commands."
            raise click.UsageError(f"No such command '{args[0]}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by group, from the table alone."""
        for group in GROUPS:
            rows = [(name, entry.help) for name, entry in COMMANDS.items() if entry.group == group]
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows, col_max=14)


def load_command(name: str, entry: Entry) -> click.Command:
    """Import one command of the table."""
    module_name, _, attribute = entry.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise click.UsageError(f"`{name}` is not part of this build.") from None
    command: click.Command = getattr(module, attribute)
    return command


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from forebay import __version__
    from forebay_core import IMPLEMENTATION

    click.echo(f"forebay {__version__} (core: {IMPLEMENTATION})")
    ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and which core runs.",
)
def cli() -> None:
    """Edge agent for sensors: check, infer, mask before disk, buffer durably, forward."""


def run(arguments: Sequence[str], command: click.Command = cli) -> int:
    """Run one command line and return its exit code. Errors are one message on stderr."""
    try:
        result: Any = command.main(args=list(arguments), prog_name="forebay", standalone_mode=False)
    except click.exceptions.Abort:  # click's name for Ctrl-C
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ForebayError as error:
        click.echo(f"error: {error}" if "\n" not in str(error) else str(error), err=True)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except BrokenPipeError:
        # `forebay decode FILE | head`: the reader has gone. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except PermissionError:
        # Which file it was is not said: names of files may be data.
        hint = "run it as root, or as the user of the service"
        click.echo(f"error: this user may not read or write what the command needs ({hint})", err=True)
        return EXIT_FAILED
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            _report_bug(error)
            return EXIT_FAILED
        hint = "is the disk full, read-only, or the path wrong?"
        click.echo(f"error: a file could not be read or written: {error.strerror} ({hint})", err=True)
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the last stop; anything here is our bug
        _report_bug(error)
        return EXIT_FAILED
    return result if isinstance(result, int) and not isinstance(result, bool) else EXIT_OK


def _report_bug(error: BaseException) -> None:
    """Say where our own code failed. The exception's text may hold data: shown only when asked for."""
    if os.environ.get("FOREBAY_TRACEBACK"):
        traceback.print_exception(error)
        return
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    click.echo(
        f"internal error: {type(error).__name__} in {where} (FOREBAY_TRACEBACK=1 shows all of it)", err=True
    )
