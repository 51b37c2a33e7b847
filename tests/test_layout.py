"""
How the project is laid out: who may import whom, what a plugin's top module may cost, that no file names a machine.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "src" / "penstock"
CONNECTORS = sorted(path.name for path in ROOT.glob("connector_*") if (path / "pyproject.toml").exists())
MEMBERS = ["core", "plugins", *CONNECTORS]
PROVIDERS = [name.removeprefix("connector_") for name in CONNECTORS]

# The private folders of the core, in the order in which a run uses them. The Python API is built from all stages before
# it, and the command line from it.
STAGES = (
    "_util",
    "_plugins",
    "_config",
    "_run_report",
    "_plan",
    "_fetch",
    "_decode",
    "_recording",
    "_read",
    "_run",
    "_write",
    "_project",
    "_cli",
    "__main__",
    "testing",
)

# The modules and folders of the core that may import a large library; an empty set: only plugins.
IMPORTERS = {
    "cattrs": {"_config", "engines"},
    "urllib3": {"_fetch"},
    "click": {"_cli"},
    "rich": {"_cli"},
    "psycopg": set[str](),
    "pyarrow": set[str](),
    "duckdb": set[str](),
}


# What the command line imports of the stages, apart from the Python API, and why.
OF_STAGES = {
    "penstock._util": "clocks, days, files and texts",
    "penstock._plugins.built_in": "the commands, whose names no plugin may take",
    "penstock._plugins.plugin_errors": "the defect of a plugin's command",
    "penstock._config.toml_values": "init and demo write a configuration from classes of settings",
    "penstock._config.json_schema": "schema prints the schema of a configuration",
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


@cache
def imported_by(path: Path) -> tuple[str, ...]:
    """The modules that a file imports at run time, also within a function."""
    return tuple(imports(parsed(path)))


def imports(tree: ast.AST, *, deep: bool = True) -> Iterator[str]:
    """The modules imported at run time; without ``deep``, by importing the module alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.expr):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif deep or not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            yield from imports(node, deep=deep)


def stage_of(path: Path) -> str:
    """The core's module, or package, that a file belongs to."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def imports_of_core() -> Iterator[tuple[Path, str, str]]:
    """Each import of a module of the core, with the stage of the module."""
    for path in modules(CORE):
        for name in imported_by(path):
            yield path.relative_to(CORE), stage_of(path), name


def test_a_folder_imports_earlier_stages_only() -> None:
    """
    Public modules import no private folder; a private folder imports those that stand before it in ``STAGES``.
    """
    for stage in map(stage_of, modules(CORE)):
        assert stage in STAGES or not stage.startswith("_") or stage == "__init__", f"{stage}: name it in STAGES"
    for path, stage, name in imports_of_core():
        assert not name.startswith(("penstock_plugins", "connector_")), f"{path} imports {name}"
        other = name.split(".")[1] if name.startswith("penstock.") else stage
        if other in STAGES and other != stage:
            assert stage in STAGES, f"{path}, a public module, imports {name}"
            assert STAGES.index(other) < STAGES.index(stage), f"{path} imports {name}, of a later stage"


def test_the_command_line_is_a_layer_over_the_python_api() -> None:
    """
    A command does what a method of ``Project`` does: it imports the Python API, and of the stages what is named here.
    """
    of_stages = {
        (str(path), name)
        for path, stage, name in imports_of_core()
        if stage == "_cli"
        and name.startswith("penstock._")
        and not name.startswith(("penstock._cli", "penstock._project", "penstock.__"))
        and not any(f"{name}.".startswith(f"{allowed}.") for allowed in OF_STAGES)
    }
    assert of_stages == set()


def test_no_modules_import_each_other() -> None:
    """
    The modules of the core import each other in no circle, also not within a function.
    """
    dotted = {path: ".".join(path.relative_to(CORE.parent).with_suffix("").parts) for path in modules(CORE)}
    paths = {name.removesuffix(".__init__"): path for path, name in dotted.items()}
    graph = {
        name: {other for other in imported_by(path) if other in paths and other != name} for name, path in paths.items()
    }

    in_order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert sorted(in_order) == sorted(graph)


def test_large_libraries_are_imported_in_one_place() -> None:
    """
    urllib3 is imported in ``_fetch`` only, cattrs by the configuration and ``penstock.engines``, click and rich by the
    command line.
    """
    for path, stage, name in imports_of_core():
        top = name.split(".")[0]
        assert stage in IMPORTERS.get(top, {stage}) or stage == "testing", f"{path} imports {name}"


def test_core_names_no_provider_and_no_library_of_a_plugin() -> None:
    """
    No text of the core, apart from prose, is a provider, or a library that only plugins import; no text has the name of
    a connector, and no name in its code that of a provider.
    """
    libraries = {name for name, folders in IMPORTERS.items() if not folders} | {"distributed", "dask"}
    foreign = {*libraries, *PROVIDERS}
    connectors = re.compile("|".join(f"connector-{provider}" for provider in PROVIDERS))
    providers = re.compile("|".join(PROVIDERS))
    for path in modules(CORE):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value.lower()
                assert text not in foreign, f"{path}: {text}"
                assert not connectors.search(text), f"{path}: {text}"
            for name in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "name", "")):
                assert not providers.search(str(name).lower()), f"{path}: {name}"


@pytest.mark.parametrize("member", [*CONNECTORS, "plugins"])
def test_plugins_import_no_connector(member: str) -> None:
    """
    A connector imports no other connector; the shared plugins import none at all; neither imports a private name.
    """
    package = next((ROOT / member / "src").iterdir()).name
    for path in modules(ROOT / member / "src"):
        for name in imported_by(path):
            top = name.split(".")[0]
            assert not top.startswith("connector_") or top == package, f"{path.name} imports {name}"
            assert not re.match(r"penstock\._(?!_)", name), f"{path.name} imports {name}"


@pytest.mark.parametrize("member", CONNECTORS)
def test_tests_of_a_connector_import_nothing_private(member: str) -> None:
    """
    Tests of a connector import what an author's own tests may; what they need besides is in tests/helpers.
    """
    for path in (ROOT / member / "tests").rglob("*.py"):
        for name in imported_by(path):
            assert not re.match(r"penstock(_plugins)?(\.\w+)*\._(?!_)", name), f"{path.name} imports {name}"


def packages_with_a_list() -> dict[str, tuple[Path, str]]:
    """The packages of all members whose docstring lists their modules, with that paragraph."""
    found = {}
    for member in MEMBERS:
        for path in (ROOT / member / "src").rglob("__init__.py"):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            for paragraph in docstring.split("\n\n"):
                if paragraph.startswith("The modules"):
                    found[str(path.parent.relative_to(ROOT))] = (path.parent, paragraph)
    return found


LISTS = packages_with_a_list()


@pytest.mark.parametrize("package", sorted(LISTS))
def test_a_list_of_modules_is_complete(package: str) -> None:
    """
    A paragraph "The modules" of a package's docstring names each of its modules, and nothing else.
    """
    folder, paragraph = LISTS[package]

    listed = set(re.findall(r"``([a-z_]+)``", paragraph))
    assert listed == {path.stem for path in folder.glob("*.py")} - {"__init__"}


def test_there_are_lists_of_modules() -> None:
    """
    The docstrings are read as they are meant.
    """
    assert {"core/src/penstock/_fetch", "plugins/src/penstock_plugins/postgres"} <= LISTS.keys()


# The packages that are imported by their own names: interfaces and tools, each for its kind of plugin.
PUBLIC = {"ledger", "sandbox", "testing", "engines", "commands"}


def test_modules_without_an_underscore_are_for_authors() -> None:
    """
    A module at the top of the core defines names that ``penstock`` exports, or it is one of the packages that are
    imported by their own names, or the specification of the hooks. All else is in a private folder. Of the private
    folders, only that of the Python API defines exported names, and that of the plan the partitions in its result.
    """
    import penstock

    exported = {module.split(".")[1] for module in penstock.public_names().values()}
    top = {path.relative_to(CORE).parts[0].removesuffix(".py") for path in modules(CORE)}

    public = {name for name in top if not name.startswith("_")}
    assert public | {"_project", "_plan"} == exported | PUBLIC | {"hookspecs"}


def test_core_readme_names_the_modules_that_members_import() -> None:
    """
    Connectors import public modules of the core only; the bundled plugins also those that its README names, and all of
    these.
    """
    listed = (ROOT / "core" / "README.md").read_text().rpartition("import these of it besides: ")[2]
    besides = set(re.findall(r"`penstock\.([a-z_.]+)`", listed))
    imported: dict[str, set[str]] = {}
    for member in [*CONNECTORS, "plugins"]:
        found = imported[member] = set[str]()
        for path in modules(ROOT / member / "src"):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock."):
                    found.add(str(node.module).removeprefix("penstock."))
                elif isinstance(node, ast.Import):
                    found |= {name.name[9:] for name in node.names if name.name.startswith("penstock.")}

    assert besides
    assert imported.pop("plugins") - PUBLIC == besides
    assert [name for found in imported.values() for name in sorted(found) if name.partition(".")[0] not in PUBLIC] == []


@pytest.mark.parametrize("member", [*CONNECTORS, "plugins"])
def test_top_module_costs_nothing(member: str) -> None:
    """
    A plugin's top module, which is imported to find out what is offered, imports the marker or the plugin of a
    connector only.
    """
    package = next((ROOT / member / "src").iterdir())
    tree = ast.parse((package / "__init__.py").read_text())
    found = {name for name in imports(tree, deep=False) if not name.startswith(("collections", "typing"))}
    assert found <= {"penstock", "penstock.hookimpl", "penstock.ConnectorPlugin"}


def shows_a_whole_package(folder: Path, project: Mapping[str, Any]) -> None:
    """A wheel of this folder has licence, author, keywords, classifiers, and a README without dead links."""
    assert project["license"] == "MIT"
    assert project["license-files"] == ["LICENSE"]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project["authors"] == [{"name": "penstock contributors"}]
    assert project["keywords"]
    assert "Programming Language :: Python :: 3.11" in project["classifiers"]
    shown = project["readme"]
    readme = shown["text"] if isinstance(shown, Mapping) else (folder / shown).read_text()
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", readme) if not re.match(r"https://|#", link)] == []


def test_the_distribution_without_code_has_its_shape():
    """
    The wheel of the distribution without code is whole, its text names each connector, and each extra is named there.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    shows_a_whole_package(ROOT, project)
    assert {f"`{name}`" for name in project["optional-dependencies"]} - {"`all`"} <= set(
        re.findall("`[a-z0-9]+`", project["readme"]["text"])
    )


@pytest.mark.parametrize("member", MEMBERS)
def test_member_has_its_shape(member: str) -> None:
    """
    src layout, a project file that names package and licence, a README; a plugin is found by its entry point.

    What a wheel shows is whole without the repository: the licence is in it, and no link of its README leads out of it.
    """
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())
    shows_a_whole_package(ROOT / member, project["project"])
    packages = [path.name for path in (ROOT / member / "src").iterdir() if (path / "__init__.py").exists()]

    assert len(packages) == 1
    assert "Typing :: Typed" in project["project"]["classifiers"]
    if member != "core":
        named = packages[0] if member == "plugins" else f"{packages[0]}:plugin"
        assert project["project"]["entry-points"]["penstock"] == {packages[0]: named}
        assert "penstock-core>=0.1,<0.2" in project["project"]["dependencies"]
    assert not [one for one in project["project"]["dependencies"] if one.startswith("connector")]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_module_has_a_docstring(member: str) -> None:
    """
    Each module of the source begins with a docstring.
    """
    silent = [path.name for path in modules(ROOT / member / "src") if not ast.get_docstring(parsed(path))]
    assert silent == []


def test_test_files_have_names_of_their_own() -> None:
    """
    No two test files of the repository share a name: they are collected without packages.
    """
    names = [path.name for member in (*MEMBERS, ".") for path in (ROOT / member / "tests").glob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_tests_hold_tests_and_helpers_only() -> None:
    """
    Code that test files share is in ``tests/helpers``, or the imitation of a connector's provider beside its tests; no
    test file imports another one.
    """
    folders = [ROOT / member / "tests" for member in (*MEMBERS, ".")]
    tests = [path for folder in folders for path in folder.glob("test_*.py")]
    others = [path.name for folder in folders for path in folder.glob("*.py") if path not in tests]
    assert [name for name in others if not name.startswith(("imitation_", "conftest"))] == []
    assert [(path.name, name) for path in tests for name in imported_by(path) if name.startswith("test_")] == []


def tracked() -> list[str]:
    """The files that git tracks and that are there, by their paths. Skips a test where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no git")
    if listed.returncode:
        pytest.skip("not a checkout")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_is_named() -> None:
    """
    No tracked file holds a path of some developer's machine, or a key. Only tests and documentation name a file in
    /tmp.
    """
    machine = re.compile(rb"(?<![\w.:/-])/(?:work|root|home|Users)/\w|-----BEGIN [A-Z ]*PRIVATE KEY")
    temporary = re.compile(rb"(?<![\w.:/-])/tmp/\w")
    found = [
        name
        for name in tracked()
        for content in [(ROOT / name).read_bytes()]
        if machine.search(content)
        or (temporary.search(content) and not name.endswith(".md") and {"docs", "tests"}.isdisjoint(Path(name).parts))
    ]
    assert found == []


def test_the_top_of_the_repository_has_these_files() -> None:
    """
    A file that one developer needs is not committed beside them.
    """
    found = {name for name in tracked() if "/" not in name}
    assert found == {
        ".containerignore",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Containerfile",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "conftest.py",
        "pyproject.toml",
    }


def test_help_imports_nothing_large() -> None:
    """
    ``penstock --help`` starts without network, codecs, tables and connectors.
    """
    code = (
        "import sys\nfrom penstock._cli import main\nmain(['--help'])\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ended.stderr.split("LOADED", 1)[1].split())
    large = {"urllib3", "cattrs", "rich", "msgspec", "sqlite3", "psycopg", "pyarrow", "duckdb", "http", "ssl"}
    assert loaded & {*large, *CONNECTORS} == set()


def test_a_run_imports_no_other_command() -> None:
    """
    ``penstock run`` starts without the sandbox, the writes, the test kit and what reads ledgers for people.
    """
    code = (
        "import sys\nimport penstock._cli.run, penstock._project.project, penstock._project.run\n"
        "import penstock_plugins.files.sink\nprint(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = (
        "penstock.sandbox",
        "penstock.testing",
        "penstock._write",
        "penstock.results",
        "penstock_plugins.files.erase",
        "penstock_plugins.files.verify",
        "http.server",
        "rich",
    )
    assert [name for name in ended.stdout.split() if name.startswith(others)] == []


def test_every_public_name_exists() -> None:
    """
    Each name that ``public_names`` lists is imported from ``penstock`` on first use.
    """
    import penstock

    assert [name for name in penstock.public_names() if getattr(penstock, name, None) is None] == []
