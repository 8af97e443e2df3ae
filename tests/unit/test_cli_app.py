"""The command line itself: help by group, lazy imports, exit codes, messages."""

import subprocess
import sys

import click
import pytest

import forebay
from forebay.cli import app
from forebay.errors import ConfigError, InputError


def outcome(capsys, *arguments, command=app.cli):
    code = app.run(arguments, command)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_shows_every_command_in_its_group(capsys):
    code, out, _ = outcome(capsys, "--help")
    assert code == 0
    places = [out.index(f"\n{group}:\n") for group in app.GROUPS]
    assert places == sorted(places)
    for name, entry in app.COMMANDS.items():
        assert f"\n  {name} " in out
        assert entry.help in out
        assert entry.group in app.GROUPS


def test_help_imports_no_command_and_nothing_heavy():
    code = "import sys; from forebay.cli.app import run; run(['--help']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(out.splitlines()[-1].split())
    assert not {m for m in modules if m.startswith("forebay.cli.")} - {"forebay.cli.app"}
    assert not modules & {"pydantic", "numpy", "yaml", "zmq", "onnxruntime", "sqlite3", "asyncio", "cv2"}


def test_the_version_names_the_core_that_runs(capsys):
    from forebay_core import IMPLEMENTATION

    code, out, _ = outcome(capsys, "--version")
    assert (code, out) == (0, f"forebay {forebay.__version__} (core: {IMPLEMENTATION})\n")


def test_an_unknown_command_is_bad_usage_with_the_nearest_named(capsys):
    code, _, err = outcome(capsys, "chek")
    assert code == 2
    assert "Did you mean 'check'?" in err


def test_an_unknown_option_is_bad_usage(capsys):
    assert outcome(capsys, "check", "--no-such")[0] == 2


def test_a_command_that_this_build_lacks_is_named(capsys, monkeypatch):
    monkeypatch.setitem(app.COMMANDS, "gone", app.Entry("forebay.cli.gone:x", "Gone.", "Tools"))
    code, _, err = outcome(capsys, "gone")
    assert code == 2
    assert "`gone` is not part of this build" in err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            ConfigError("expected a, found b", place="f.yaml:1:2", hint="do c"),
            2,
            "f.yaml:1:2: expected a, found b",
        ),
        (InputError("line too long", place="x.csv:7"), 1, "error: x.csv:7: line too long"),
        (click.UsageError("no"), 2, "no"),
        (click.exceptions.Exit(3), 3, ""),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (
            PermissionError(13, "denied", "the-secret-value.csv"),
            1,
            "run it as root, or as the user of the service",
        ),
        (
            OSError(28, "No space left on device", "the-secret-value.csv"),
            1,
            "No space left on device (is the disk",
        ),
        (
            OSError(30, "Read-only file system", "the-secret-value.csv"),
            1,
            "error: a file could not be read or",
        ),
        (OSError(9, "Bad file descriptor"), 1, "internal error: OSError in test_cli_app.py:"),
        (ValueError("the-secret-value"), 1, "internal error: ValueError in test_cli_app.py:"),
    ],
)
def test_errors_are_one_message_and_an_exit_code(capsys, monkeypatch, error, code, says):
    monkeypatch.delenv("FOREBAY_TRACEBACK", raising=False)

    @click.command()
    def fails() -> None:
        raise error

    got, _, err = outcome(capsys, command=fails)
    assert got == code
    assert says in err
    assert "the-secret-value" not in err
    assert "Traceback" not in err


def test_a_reader_that_went_away_is_no_traceback():
    script = "import sys; from forebay.cli.app import run; sys.exit(run(['schema']))"
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "{script}" | head -c 10; exit ${{PIPESTATUS[0]}}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1)  # 0 where the pipe's buffer took all of it
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
