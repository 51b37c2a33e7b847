"""The command line as a whole: start-up, common options, and how errors become text and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import penstock
import penstock_plugins
import pytest
from command_in_process import main
from penstock._cli.options import DURATION
from penstock._cli.output import print_json, print_table
from penstock._cli.session import Session, complain
from penstock._plugins.built_in import COMMANDS
from penstock.errors import (
    AuthenticationError,
    ConfigError,
    DeadlineReachedError,
    LockHeldError,
    OutputClosedError,
    PenstockError,
    PluginError,
    SinkError,
)
from penstock.redact import Secret

pytestmark = pytest.mark.slow


def test_help_imports_nothing_heavy() -> None:
    """
    ``penstock --help`` lists every verb without importing what it does not need.
    """
    heavy = (
        "psycopg",
        "urllib3",
        "cattrs",
        "rich",
        "msgspec",
        "attrs",
        "penstock._plugins.registry",
        "importlib.metadata",
    )
    program = f"""
import sys
from penstock._cli import main
code = main(["--help"])
print([name for name in {heavy!r} if name in sys.modules], code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[] 0"
    for verb in COMMANDS:
        assert re.search(rf"^  .{{7}}  {verb} ", done.stdout, re.MULTILINE)


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """
    24 lines of 80 columns, the prompt included.
    """
    assert main(["--help"], plugins=[]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80


def test_the_help_names_the_commands_of_the_bundled_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    """
    All that they offer, in their order; no plugin is imported for it.
    """
    names = ", ".join(command.name for command in penstock_plugins.penstock_commands())

    assert main(["--help"], plugins=[]) == 0
    assert capsys.readouterr().out.endswith(f"By plugins: {names}.\n")


def test_the_package_runs_as_a_module() -> None:
    """
    ``python -m penstock`` is the command line, for where the program is not on the path.
    """
    done = subprocess.run([sys.executable, "-m", "penstock", "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(f"penstock {penstock.__version__}, Python ")


def test_without_a_verb_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Without a command the help is printed on stdout with its lines, not as an error's message.
    """
    assert main([], plugins=[]) == 2

    out, err = capsys.readouterr()
    assert out.startswith("Usage: penstock [OPTIONS] COMMAND ...\n")
    assert err == ""


def test_the_command_is_installed() -> None:
    """
    ``penstock --version`` works as a program.
    """
    program = Path(sys.executable).parent / "penstock"

    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(f"penstock {penstock.__version__}, Python ")


@pytest.mark.parametrize("verb", [verb for verb, (module, *_) in COMMANDS.items() if module != "act"])
def test_every_verb_has_help_and_takes_the_common_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Each verb's help lists its own options apart from those that all take.
    """
    assert main([verb, "--help"], plugins=[]) == 0

    out = capsys.readouterr().out
    assert "Options of every command:" in out
    for option in ("--config", "--set", "--strict-plugins", "--quiet", "--verbose", "--debug", "--log-format"):
        assert option in out


@pytest.mark.parametrize("verb", ["connectors", "streams", "plan", "status", "rejected"])
def test_every_verb_that_lists_has_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A program can read what a person can.
    """
    assert main([verb, "--help"], plugins=[]) == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["statsu"], "no command 'statsu'. Did you mean \"status\"? See: penstock --help", id="verb"),
        pytest.param(["version"], 'Did you mean "--version"?', id="option as verb"),
        pytest.param(
            ["run", "x", "--to", "csv:data"], "In a checkout of penstock: pip install ./plugins", id="no sinks"
        ),
        pytest.param(
            ["rejected"], "list or show is missing: `penstock rejected list` counts them by reason, ", id="list or show"
        ),
        pytest.param(
            ["check"], "nothing is configured that could be checked. There is no penstock.toml here", id="nothing"
        ),
        pytest.param(["status"], "name one with --to. There is no penstock.toml here", id="another directory"),
        pytest.param(["streams"], "Missing argument 'CONNECTOR'. See: penstock streams --help", id="argument"),
        pytest.param(["run", "x", "--fulll"], "No such option", id="option"),
        pytest.param(
            ["run", "x", "--since", "2026-13-01"],
            "expected a day: 2026-01-31, yesterday, -3d",
            id="day",
        ),
        pytest.param(["run", "x", "--deadline", "5 weeks"], "expected a time such as 45, 45s, 30m or 2h", id="time"),
        pytest.param(["run", "x", "--deadline", "0"], "expected a time such as 45, 45s, 30m or 2h", id="no time"),
        pytest.param(["run", "x", "--streams", ","], "expected names such as a,b", id="names"),
        pytest.param(["streams", "x"], "no connector named 'x' is installed", id="connector"),
        pytest.param(["--config", "absent.toml", "run", "x"], "absent.toml: no such file", id="file"),
        pytest.param(["run", "x", "--report", "absent/report.json"], "there is no directory absent", id="report"),
    ],
)
def test_a_users_mistake_is_one_paragraph_and_exit_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    working_directory: Path,
) -> None:
    """
    No traceback, nothing on stdout, what was found and what is expected.
    """

    assert main(arguments, plugins=[], environ={}) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("penstock: error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PenstockError("x"), 1),
        (SinkError("x"), 1),
        (ConfigError("x"), 2),
        (PluginError("x"), 2),
        (click.UsageError("x"), 2),
        (AuthenticationError("x"), 3),
        (DeadlineReachedError("x"), 4),
        (LockHeldError("x"), 6),
        (KeyError("x"), 1),
        (RecursionError("x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_error_has_its_exit_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The class of the error decides; the text is one line on stderr.
    """
    assert complain(Session(), error) == code
    assert capsys.readouterr().err.startswith("penstock: error: ")


def test_a_closed_output_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """
    ``penstock run ... --to - | head`` ends with 0 and without a word.
    """
    assert complain(Session(), OutputClosedError("closed")) == 0
    assert capsys.readouterr().err == ""


def test_several_problems_are_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    """
    One line each, and how many.
    """
    complain(Session(), ConfigError(["a is wrong", "b is wrong"]))

    assert capsys.readouterr().err == (
        "penstock: error: 2 problems in the configuration:\n  - a is wrong\n  - b is wrong\n"
    )


class Pressing:
    @penstock.hookimpl
    def penstock_sinks(self) -> Iterable[Any]:
        signal.raise_signal(signal.SIGINT)
        return []


def test_ctrl_c_is_exit_130(capsys: pytest.CaptureFixture[str]) -> None:
    """
    An interrupt before a run ends the command without a traceback.
    """
    # A shell's background job starts with the signal ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["connectors"], plugins=[Pressing()]) == 130
    finally:
        signal.signal(signal.SIGINT, former)
    assert "Traceback" not in capsys.readouterr().err


def test_sigterm_before_a_verb_begins_is_exit_130(tmp_path: Path) -> None:
    """
    SIGTERM ends the command as Ctrl-C does, with a word, here while it waits for a configuration that nobody writes.
    """
    config = tmp_path / "penstock.toml"
    os.mkfifo(config)
    program = str(Path(sys.executable).parent / "penstock")
    with subprocess.Popen([program, "--config", str(config), "check", "x"], stderr=subprocess.PIPE) as process:
        with config.open("wb"):  # returns when it reads
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)

    assert (process.returncode, err.strip()) == (130, b"penstock: interrupted")


def test_a_terminal_is_sent_nothing_that_it_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A sequence in a provider's text that would change a terminal (title, colours, hidden or turned words) is shown as an
    escape.
    """
    evil = "no \x1b]0;title\x07 \x9b2J \x7f \u202edrow"
    plain, logged = Session(), Session()
    logged.log_format = "json"

    complain(plain, PenstockError(evil))
    complain(logged, PenstockError(evil))
    print_json({"reason": evil})
    print_table(["reason"], [[evil]])

    captured = capsys.readouterr()
    message = captured.out + captured.err
    assert r"no \u001b]0;title\u0007 \u009b2J \u007f \u202edrow" in message
    assert not {sign for sign in message if unicodedata.category(sign) in ("Cc", "Cf")} - {"\n"}
    assert json.loads(captured.err.splitlines()[1])["message"] == evil


def test_a_defect_is_named_and_shows_its_place_only_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """
    An unexpected exception is a defect, masked, of the package in whose code it arose, or of penstock; ``--debug``
    shows its traceback.
    """
    Secret("sesame-open")
    session = Session()

    def fail() -> Exception:
        try:
            raise ZeroDivisionError("sesame-open / 0")
        except ZeroDivisionError as error:
            return error

    assert complain(session, fail()) == 1
    plain = capsys.readouterr().err
    session.debug = True
    assert complain(session, fail()) == 1
    debugged = capsys.readouterr().err

    package = __name__.partition(".")[0]
    assert f"this is a defect of {package} or of penstock: ZeroDivisionError: *** / 0 (test_cli_main.py" in plain
    assert "Traceback" not in plain
    assert "Traceback" in debugged
    assert "sesame" not in plain + debugged


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["runs", "--limit", "0"], "--limit: 0 is not in the range x>=1. See: penstock runs --help"),
        (["rejected", "all"], "list|show: 'all' is not one of 'list', 'show'. See: penstock rejected --help"),
    ],
    ids=["option", "argument"],
)
def test_a_value_that_is_refused_is_named_as_in_other_messages(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    """
    The option first, then what was found: whether click or a command refuses it.
    """
    assert main(arguments, plugins=[]) == 2
    assert capsys.readouterr().err == f"penstock: error: {text}\n"


def test_errors_are_json_when_logs_are(capsys: pytest.CaptureFixture[str]) -> None:
    """
    With ``--log-format json`` every line of stderr is an object.
    """
    assert main(["--log-format", "json", "streams", "x"], plugins=[]) == 2

    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["error"], event["exit_code"]) == ("error", "PluginError", 2)


class Broken:
    @penstock.hookimpl
    def penstock_sinkz(self) -> None:
        """No such hook."""


@pytest.mark.parametrize("arguments", [["--strict-plugins", "connectors"], ["connectors", "--strict-plugins"]])
def test_strict_plugins_stops_at_a_broken_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """
    The option may stand before the verb or after it.
    """
    assert main(["connectors"], plugins=[Broken()]) == 0
    assert "Broken" in capsys.readouterr().out
    assert main(arguments, plugins=[Broken()]) == 2
    assert "Broken: it implements penstock_sinkz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("45", 45), ("45s", 45), ("1.5m", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    """
    A duration has a unit, or is a number of seconds.
    """
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("words", ["connectors --json", "connectors", "init talroo"])
def test_a_closed_pipe_ends_a_listing_quietly(words: str) -> None:
    """
    ``penstock streams ... | head`` is no failure, whatever prints: JSON, tables or lines.
    """
    read, write = os.pipe()
    os.close(read)
    program = Path(sys.executable).parent / "penstock"
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run([str(program), *words.split()], stdout=closed, stderr=subprocess.PIPE, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_an_output_that_is_full_is_reported() -> None:
    """
    A full output is reported as such, not as a defect.
    """
    program = str(Path(sys.executable).parent / "penstock")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [program, "connectors", "--json"], stdout=full, stderr=subprocess.PIPE, check=False, text=True
        )

    assert done.returncode == 1
    assert done.stderr.startswith("penstock: error: standard output, or a file, cannot be written: ")


PROGRAM = Path(sys.executable).parent / "penstock"


def started(words: str) -> "subprocess.CompletedProcess[str]":
    """``penstock WORDS`` as a shell starts it."""
    return subprocess.run(["sh", "-c", f"exec {PROGRAM} {words}"], capture_output=True, text=True, check=False)


def test_a_working_directory_that_was_removed_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A deployment replaced it, or another shell removed it: the message says where to look.
    """
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(FileNotFoundError) as raised:
        Path("data").absolute()

    assert complain(Session(), raised.value) == 2
    assert "the working directory was removed or replaced. Change to one" in capsys.readouterr().err


def test_a_closed_stderr_is_no_defect() -> None:
    """
    A daemon may start the command so: standard output is written as ever.
    """
    done = started("connectors 2>&-")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("words", ["connectors", "--help", "--version"])
def test_a_closed_output_fails_the_command_that_prints(words: str) -> None:
    """
    The command fails, as those of the shell do; what prints nothing there does not.
    """
    done = started(f"{words} >&-")

    assert done.returncode == 1
    assert done.stderr == ("penstock: error: standard output is closed. Redirect it to a file, or to /dev/null\n")


INTERRUPTED_AT = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.{number})

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["penstock", "connectors"]
runpy.run_module("penstock", run_name="__main__")
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("module", ["penstock._cli", "click", "penstock._cli.session", "penstock._plugins.registry"])
def test_a_signal_in_the_first_instants_is_no_traceback(module: str, number: str) -> None:
    """
    While the command line is imported, and before a command handles signals, Ctrl-C ends with 130.
    """
    program = INTERRUPTED_AT.format(module=module, number=number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 130
    assert "Traceback" not in done.stderr


IN_A_FINALISER = """
import os, signal
from penstock import _cli

class Interrupting:
    def __del__(self):
        os.kill(os.getpid(), signal.{number})
        sum(range(3))

def main():
    Interrupting()
    return 0

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, as in a background job
_cli.main = main
_cli.script()
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_in_a_finaliser_is_not_lost(number: str) -> None:
    """
    Python ignores what is raised there: it would print a traceback and go on.
    """
    program = IN_A_FINALISER.format(number=number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "penstock: interrupted\n")


AT_THE_END = """
import os, signal, sys
from penstock import _cli

def main():
    print("all of it", flush=True)
    return 5

signal.signal(signal.SIGINT, signal.default_int_handler)
_cli.main = main
code = _cli.script()
os.kill(os.getpid(), signal.SIGINT)
sys.exit(code)
"""


def test_a_signal_after_the_command_changes_nothing() -> None:
    """
    A signal after the outcome was printed does not change the exit code.
    """
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (5, "all of it\n", "")
