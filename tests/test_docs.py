"""
The documentation: its commands are run and print what it shows, its tables are those of the declarations, its links
lead somewhere.

In a ``console`` block a line ``$ command`` is run, and what follows must be its output: blanks do not count, ``...``
stands for anything, times and run ids for any other. The day is 2026-11-21, Talroo's imitation is the provider. A
block of TOML that begins with ``# penstock.toml`` becomes that file.
"""

import doctest
import importlib
import importlib.util
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import penstock
import pytest
import time_machine
from attrs import define, field
from command_in_process import main
from connector_run import loaded
from penstock import SandboxRequest, SandboxResponse, Secret, errors
from penstock._cli import Commands, command_group
from penstock._cli.init import toml_value
from penstock._cli.session import Session
from penstock._plugins.built_in import COMMANDS
from penstock._run_report.report import STATUS
from penstock.sandbox import FAULTS
from penstock.sandbox.server import Server, serve

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md")])
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return _BLOCK.findall(path.read_text())


# --- a shell for the console blocks -----------------------------------------------------------------------------------


@define
class Shell:
    """
    Runs a page's commands in one directory: penstock's in this process, anything else in a real shell.

    ``port`` is where the imitation really listens; the page has 8977.
    """

    place: Path
    port: int
    environ: dict[str, str]
    code: int = 0
    aliases: dict[str, str] = field(factory=lambda: {"make demo": "penstock demo"})

    def run(self, command: str) -> str:
        """Everything that the command prints, as a reader of the page would see it."""
        command = self.aliases.get(command, command).replace("8977", str(self.port))
        if command == "echo $?":
            return f"{self.code}\n"
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.environ[name] = value
            self.code = 0
            return ""
        if not command.startswith("penstock "):
            environ = {**os.environ, **self.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.place, env=environ, capture_output=True, check=False
            )
            self.code = done.returncode
            return self._shown(done.stdout + done.stderr)
        own, pipe, rest = re.fullmatch(r"([^|>]*)([|>]?)(.*)", command).groups()
        out, err = (
            io.TextIOWrapper(io.BytesIO(), write_through=True),
            io.TextIOWrapper(io.BytesIO(), write_through=True),
        )
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = out, (err if pipe else out)
        try:
            self.code = main(shlex.split(own)[1:], environ=self.environ)
        finally:
            sys.stdout, sys.stderr = before
        printed = out.buffer.getvalue()
        if not pipe:
            return self._shown(printed)
        fed = subprocess.run(
            ["bash", "-c", f"cat {pipe}{rest}"], cwd=self.place, input=printed, capture_output=True, check=False
        )
        return self._shown(err.buffer.getvalue() + fed.stdout + fed.stderr)

    def _shown(self, printed: bytes) -> str:
        return printed.decode().replace(str(self.port), "8977").replace(str(self.place), "/srv/reports")


def sessions(text: str) -> Iterator[tuple[str, str]]:
    """(command, expected output) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.replace("\\\n", " ").partition("\n")
        yield command.strip(), expected


_VARYING = (
    (re.compile(r"(?<=  )\.venv/bin/(?=penstock )"), ""),  # what the demo calls itself: as it was started
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"(?<=\d{4}-\d\d-\d\d)[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d)? s\b"), "N s"),
    (re.compile(r'("(?:seconds|bytes)": )[\d.]+'), r"\1N"),
)


def fits(expected: str, printed: str) -> bool:
    for pattern, instead in _VARYING:
        expected, printed = pattern.sub(instead, expected), pattern.sub(instead, printed)
    expected = re.sub(r" +\.\.\.$", "...", expected, flags=re.MULTILINE)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, printed, flags)


def play(path: Path, shell: Shell, notes: dict[str, Callable[[], None]]) -> None:
    """
    Run a page from its beginning to its end. ``<!-- test: NOTE -->`` does what ``notes`` has for it.

    A command ends with 0 unless the page shows ``echo $?`` after it. One without output on the page may print anything.
    A page shows some output.
    """
    compared = 0
    for found in re.finditer(r"<!-- test: (.*?) -->|" + _BLOCK.pattern, path.read_text(), re.MULTILINE | re.DOTALL):
        note, language, text = found.groups()
        if note:
            notes[note]()
        elif language == "toml" and text.startswith("# penstock.toml"):
            (shell.place / "penstock.toml").write_text(text.replace("8977", str(shell.port)))
        elif language == "console":
            commands = list(sessions(text))
            for number, (command, expected) in enumerate(commands):
                printed = shell.run(command)
                reported = number + 1 < len(commands) and commands[number + 1][0] == "echo $?"
                assert shell.code == 0 or reported or command == "echo $?", f"$ {command}\n{printed}"
                if expected.strip():
                    assert fits(expected, printed), f"{named(path)}:\n$ {command}\nprinted\n{printed}\nnot\n{expected}"
                    compared += 1
    assert compared, f"{named(path)} shows no output of a command"


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(NOW, tick=True) as coordinates:
        yield coordinates


@pytest.fixture
def shell(working_directory: Path) -> Shell:
    """An empty directory as a newcomer has it."""
    return Shell(working_directory, 0, {"PATH": os.environ["PATH"]})


@pytest.fixture
def talroo(clock: Any, shell: Shell) -> Iterator[Server]:
    """Talroo's imitation, served at the address of the pages."""
    with serve() as server:
        server.app = loaded().sandbox("talroo").make(server.base_url, NOW.date())
        shell.port = server.port
        yield server


# --- what the pages show ----------------------------------------------------------------------------------------------


def test_the_readme_shows_the_real_output(shell: Shell, talroo: Server) -> None:
    """
    The demo, and the smallest configuration against the imitation.
    """
    shell.environ |= {
        "TALROO_SECRET": "Jobs2CareersDemo",
        "PENSTOCK_SOURCE__TALROO__BASE_URL": f"http://127.0.0.1:{shell.port}",
        "PENSTOCK_SOURCE__TALROO__REQUESTS_PER_SECOND": "500",
    }
    play(ROOT / "README.md", shell, {})


def test_the_pages_on_running_show_the_real_output(shell: Shell, talroo: Server, clock: Any) -> None:
    """
    The guide, from the first configuration to a restated day; then the pages that continue its examples.
    """

    sandbox: Any = talroo.app

    def next_day() -> None:
        # What a run of the first day wrote a second after its start is a whole day old, too.
        clock.move_to(NOW + timedelta(days=1, minutes=1))
        sandbox.today = date(2026, 11, 22)
        sandbox.restate(date(2026, 11, 20))

    def odd_click() -> None:
        def answer(request: SandboxRequest) -> SandboxResponse:
            response: SandboxResponse = sandbox(request)
            if "advertiser_id=2112" not in request.target or "start=2026-11-21" not in request.target:
                return response
            return SandboxResponse(body=re.sub(rb'"click_id": "[^"]+"', b'"click_id": null', response.body, count=1))

        talroo.app = answer

    notes = {"next day": next_day, "odd click": odd_click}
    for page in ("guide", "configuration", "forget", "watching", "results"):
        play(ROOT / "docs" / f"{page}.md", shell, notes)


def configured(name: str, shell: Shell) -> None:
    """A configuration of the sandbox at the shell's port, its secrets in the environment."""
    registry = loaded()
    kinds = typing.get_type_hints(registry.connector(name).settings)
    lines = [f"[source.{name}]"]
    for key, value in registry.sandbox(name).source(f"http://127.0.0.1:{shell.port}").items():
        if kinds[key] is Secret or Secret in typing.get_args(kinds[key]):
            variable = f"{name}_{key}".upper()
            shell.environ[variable] = str(value)
            lines.append(f'{key} = {{ env = "{variable}" }}')
        elif key != "allow_writes":
            lines.append(f"{key} = {toml_value(value)}")
    lines += ["[sink.files]", 'kind = "jsonl"', 'path = "data"']
    lines += ["[pipeline.daily]", f'source = "{name}"', 'sink = "files"']
    (shell.place / "penstock.toml").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("page", "connector"),
    [
        ("connector_convertr/README.md", "convertr"),
        ("connector_joveo/README.md", "joveo"),
        ("connector_sensis/README.md", "sensis"),
        ("connector_talroo/README.md", "talroo"),
        ("connector_targetcircle/README.md", "targetcircle"),
        ("docs/recordings.md", "talroo"),
        ("docs/scale.md", "talroo"),
        ("docs/writes.md", "joveo"),
    ],
)
def test_a_page_shows_the_real_output_of_a_sandbox(page: str, connector: str, shell: Shell, clock: Any) -> None:
    """
    A page whose examples read or write one sandbox.
    """
    with serve() as server:
        server.app = loaded().sandbox(connector).make(server.base_url, NOW.date())
        shell.port = server.port
        configured(connector, shell)
        if connector == "sensis":
            shell.environ["PENSTOCK_SOURCE__SENSIS__ALLOW_WRITES"] = "true"
        play(ROOT / page, shell, {})


# --- an author's first hour -------------------------------------------------------------------------------------------


def files_of(path: Path) -> dict[str, str]:
    """The files that a page has its reader write: blocks whose first line is ``# path``."""
    found = {}
    for language, text in blocks(path):
        first, _, rest = text.partition("\n")
        if (
            language in ("python", "toml")
            and re.fullmatch(r"# [\w/]+\.(py|toml)", first)
            and first != "# penstock.toml"
        ):
            found[first.removeprefix("# ")] = rest
    return found


def test_the_first_hour_of_an_author_works(shell: Shell, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The page's files, installed as it describes, are a connector: listed, run against its sandbox, passing its own test.
    """
    page = ROOT / "docs" / "connector-guide.md"
    files = files_of(page)
    for name, text in files.items():
        file = shell.place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    project = tomllib.loads(files["connector_acme/pyproject.toml"])
    points = project["project"]["entry-points"]["penstock"]
    info = shell.place / "connector_acme" / "src" / "connector_acme-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: connector-acme\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "[penstock]\n" + "".join(f"{name} = {module}\n" for name, module in points.items())
    )
    monkeypatch.syspath_prepend(info.parent)
    importlib.invalidate_caches()
    with serve() as server:
        sandbox = loaded().sandbox("acme")
        server.app = sandbox.make(server.base_url, NOW.date())
        shell.port = server.port
        shell.environ["PYTHONPATH"] = str(info.parent)
        play(page, shell, {})
        replays_an_odd_answer(page, shell, server.app)


def replays_an_odd_answer(page: Path, shell: Shell, acme: Any) -> None:
    """The page's test of a recording, on the recording of a provider that gave such an answer."""
    click = {"clickId": "a", "clickedAt": "2026-11-20T08:00:00Z", "price": "-0.25", "ip": None}
    acme.truth = lambda account, day: [click] if (account, str(day)) == ("17", "2026-11-20") else []
    tests = shell.place / "connector_acme" / "tests"
    (tests / "fixtures").mkdir()
    record = tests / "fixtures" / "negative-prices"
    printed = shell.run(f"penstock run acme --to jsonl:odd --since 2026-11-20 --record {record}")
    assert shell.code == 0, printed
    (block,) = re.findall(
        r"^```python\n(from pathlib import Path\n.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    (tests / "test_odd_answers.py").write_text(block)

    printed = shell.run("pytest -q connector_acme/tests/test_odd_answers.py")

    assert "1 passed" in printed


# --- tables, links, commands ------------------------------------------------------------------------------------------


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.mark.parametrize("path", GENERATE.pages(), ids=named)
def test_tables_are_those_of_the_declarations(path: Path) -> None:
    """
    ``make docs`` changes no generated table.
    """
    assert path.read_text() == GENERATE.generated(path, loaded()), "run: make docs"


def test_type_checkers_see_the_public_names() -> None:
    """
    The stub has the names of the table from which they are imported.
    """
    assert GENERATE.STUB_FILE.read_text() == GENERATE.stub(), "run: make docs"


def test_the_reference_names_every_parameter() -> None:
    """
    The line of a public function has all its parameters, with their names.
    """
    page = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("reference-*.md")))
    functions = {name: one for name in penstock.public_names() if inspect.isfunction(one := getattr(penstock, name))}
    shown = {name: re.search(rf"^### {name}\n\n`{name}\((.*)\)", page, re.MULTILINE) for name in functions}

    assert "columns_of" in functions
    for name, function in functions.items():
        line = shown[name]
        assert line is not None, name
        assert [one for one in inspect.signature(function).parameters if not re.search(rf"\b{one}\b", line[1])] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("connector_*/README.md")), ids=named)
def test_a_readme_lists_the_keys_streams_and_actions_of_its_connector(path: Path) -> None:
    """
    The README of a connector lists every key, stream and action that it has.
    """
    registry, name, text = loaded(), path.parent.name.removeprefix("connector_"), path.read_text()

    tables = [
        "config",
        *(["streams"] if registry.streams(name) else []),
        *(["actions"] if registry.actions(name) else []),
    ]
    assert [what for what in tables if f"<!-- generated: {what} -->" not in text] == []


def test_nothing_is_installed_that_no_registry_has() -> None:
    """
    A distribution of this repository is installed from a path in it. A message may name an extra of an installed one.
    """
    pages = [ROOT / "pyproject.toml", *(one for one in PAGES if one.name != "CHANGELOG.md")]
    for path in (*pages, *ROOT.glob("*/src/**/*.py")):
        commands = [
            one for one in re.findall(r"pip install([^\n`#\\]*)", path.read_text()) if "--find-links" not in one
        ]
        own = r"(?<![\w./-])(?:penstock|connector-)[\w-]*" + (r"(?![\w\[-])" if path.suffix == ".py" else "")

        assert [one for one in commands if re.search(own, one)] == [], named(path)


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    """
    A link leads to a file that exists, and to a heading in it.
    """
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        place, _, heading = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{named(path)} links to {link}"
        if heading:
            assert heading in anchors(target), f"{named(path)} links to {link}"


def test_the_way_of_a_page_names_modules_that_exist() -> None:
    """
    The core's README, which is shown without the repository and so has no links.
    """
    named_modules = re.findall(r"`(_\w+/\w+\.py)`", (ROOT / "core" / "README.md").read_text())

    assert len(named_modules) > 10
    assert [one for one in named_modules if not (ROOT / "core" / "src" / "penstock" / one).exists()] == []


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[Any]:
    """Every penstock command in a block of any page."""
    for path in PAGES:
        for _, text in blocks(path):
            for line in text.replace("\\\n", " ").splitlines():
                for found in re.finditer(r"(?:^|[\s/=;]|`)penstock ((?:--?\w|\w)[^|>#`;]*)", line):
                    first = found[1].split()[0].rstrip(":")
                    of_all_commands = first.startswith("-")  # penstock --version
                    if "import" in line or of_all_commands or first in ("failed", "delivered", "error", "notice"):
                        continue
                    yield pytest.param(found[1].strip(), id=f"{named(path)}: {found[1].strip()}"[:90])


@pytest.mark.parametrize("command", list(commands()))
def test_commands_exist(command: str) -> None:
    """
    Each verb and each option that a page shows is one of the command line's.
    """
    group: Commands = command_group()
    words = shlex.split(command.replace("[", "").replace("]", ""))
    assert words[0] in {*COMMANDS, *loaded().commands()}
    verb = group.get_command(click.Context(group, obj=Session()), words[0])
    assert verb is not None
    known = {option for parameter in verb.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    assert used <= known | {"--help", "-h"}
    if "--faults" in words and (names := words[words.index("--faults") + 1]) != "list":
        assert set(names.split(",")) <= set(FAULTS)


@pytest.mark.parametrize("connector", ["convertr", "joveo", "sensis", "talroo", "targetcircle"])
def test_a_template_is_a_configuration_to_be_filled_in(
    connector: str, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The output of init has every section in place; the errors name every key that is still empty, and nothing else.
    """
    assert main(["init", connector], environ={}) == 0
    template = capsys.readouterr().out
    (shell.place / "penstock.toml").write_text(template)
    secrets = dict.fromkeys(re.findall(r'env = "(\w+)"', template), "secret-text")

    code = main(["check", connector], environ=secrets)
    reported = capsys.readouterr().err
    open_keys = re.findall(r'^(\w+) = \[?"\.\.\."\]?$', template, re.MULTILINE)
    assert code == 2 or not open_keys
    assert set(re.findall(rf"source\.{connector}\.(\w+): still holds", reported)) == set(open_keys)


@pytest.mark.parametrize("path", [one for one in PAGES if one.name != "CHANGELOG.md"], ids=named)
def test_lines_end_at_120(path: Path) -> None:
    """
    Those of paragraphs and lists, so that a change shows what changed; tables and what is printed have their own width.
    """
    text = re.sub(r"^```.*?^ *```|<!-- generated.*?<!-- end -->", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in text.splitlines() if len(line) > 120 and not line.lstrip().startswith("|")] == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_blocks_of_toml_and_python_can_be_read(path: Path) -> None:
    """
    A block that a reader copies is TOML, or Python, to begin with.
    """
    for language, text in blocks(path):
        if language == "toml":
            tomllib.loads(text)
        elif language == "python":
            compile(text, named(path), "exec")


def test_the_pages_list_every_exit_code_and_verb() -> None:
    """
    The table of exit codes has each code that a run or an error can end with; the index has a line for each verb.
    """
    text = (ROOT / "docs" / "results.md").read_text()
    reported = set(map(int, re.findall(r"^\| (\d+) \|", text, re.MULTILINE)))
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.PenstockError)]

    assert reported == {one.exit_code for one in kinds} | set(STATUS)
    index = (ROOT / "docs" / "index.md").read_text()
    rows = "\n".join(re.findall(r"^\|(.*?)\|.*\|.*\|$", index, re.MULTILINE))
    assert [verb for verb in {*COMMANDS, *loaded().commands()} if f"`penstock {verb}`" not in rows] == []


@pytest.mark.parametrize(
    ("command", "output"),
    [
        pytest.param("run daily", "there is no penstock.toml here", id="no configuration"),
        pytest.param("streams", "Missing argument 'CONNECTOR'. See: penstock streams --help", id="no argument"),
        pytest.param(
            "rejected", "list or show is missing: `penstock rejected list` counts them by reason, ", id="no choice"
        ),
        pytest.param("streams talrooo", 'Did you mean "talroo"?', id="nearly a connector"),
        pytest.param("runn talroo", 'Did you mean "run"?', id="nearly a verb"),
        pytest.param("run talroo", "penstock run talroo --to jsonl:data", id="no target"),
    ],
)
def test_a_newcomers_mistake_is_one_line(
    command: str, output: str, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    One line on stderr has the cause and the remedy; the exit code is 2, and nothing is written.
    """
    assert main(command.split(), environ={}) == 2
    reported = capsys.readouterr()
    assert output in reported.err
    assert reported.out == ""
    assert len(reported.err.splitlines()) == 1
    assert list(shell.place.iterdir()) == []
