"""
The files of a new connector, from samples and a few choices. The texts are the templates beside this module.
"""

import re
from collections.abc import Mapping
from string import Template
from urllib.parse import urlsplit

from attrs import frozen
from penstock import UsageError, placeholders

from penstock_plugins.scaffold import imitation
from penstock_plugins.scaffold.code import IMPORTABLE, literal, snippet, template, with_imports
from penstock_plugins.scaffold.stream import StreamChoices, StreamTexts

SIGNED = "{method}\n{path}\n{query}\n{epoch_s}\n{body}"
SIGNABLE = ("method", "path", "query", "body", "epoch_s", "key")


@frozen(kw_only=True)
class Choices:
    """
    What the author states: the connector's ``name``, where the provider answers, how it logs in, and the stream;
    ``parent``: the listing for whose records the stream is requested.
    """

    name: str
    base_url: str
    login: str
    stream: StreamChoices
    parent: StreamChoices | None = None
    login_name: str = ""  # of the header or parameter with the key
    token_url: str = "/oauth/token"  # noqa: S105
    signed: str = SIGNED
    account: str | None = None
    guessed: frozenset[str] = frozenset()  # those of path, login_name, token_url that nobody stated

    @property
    def folder(self) -> str:
        """The folder of the distribution, which is the name of its package."""
        return f"connector_{self.name}"


@frozen(kw_only=True)
class PackageFiles:
    """The files of a connector by path, and the lines with a guess that is to be reviewed."""

    files: Mapping[str, str]

    @property
    def reviews(self) -> list[str]:
        """``path:line  text`` of each guess."""
        return [
            f"{path}:{number}  {line.strip()}"
            for path, text in self.files.items()
            for number, line in enumerate(text.splitlines(), 1)
            if "# review" in line
        ]


def package_files(choices: Choices) -> PackageFiles:
    """All files of the connector. Raises UsageError for choices that do not go together."""
    if unknown := [name for name in placeholders(choices.signed) if name not in SIGNABLE]:
        raise UsageError(
            f"--signed: the sandbox cannot check {', '.join(unknown)}. There are {', '.join(SIGNABLE)}; add others to "
            "the authenticator, and to the sandbox, by hand"
        )
    texts = _Texts(choices=choices, streams=_streams(choices))
    package = f"src/{choices.folder}"
    modules = {stream.record_class: f"{choices.folder}.records" for stream in texts.streams}
    source_imports = dict.fromkeys(("CONNECTOR", texts.stream.constant), f"{choices.folder}.source")
    samples = {
        f"{package}/{stream.choices.name}.{stream.choices.sample.format}": stream.choices.sample.text
        for stream in texts.streams
    }
    return PackageFiles(
        files={
            "pyproject.toml": texts.filled("pyproject.toml"),
            "README.md": texts.filled("README.md"),
            f"{package}/__init__.py": texts.filled("init.py"),
            f"{package}/records.py": with_imports(texts.filled("records.py")),
            f"{package}/source.py": with_imports(texts.filled("source.py"), modules),
            f"{package}/sandbox.py": with_imports(texts.sandbox()),
            **samples,
            f"tests/test_{choices.name}.py": with_imports(texts.filled("test.py"), source_imports),
        }
    )


def _streams(choices: Choices) -> tuple[StreamTexts, ...]:
    """The parent's stream, if there is one, and the stream."""
    texts: list[StreamTexts] = []
    streams = [*filter(None, (choices.parent, choices.stream))]
    taken = {*IMPORTABLE, _class_name(choices.name, IMPORTABLE), *(stream.name.upper() for stream in streams)}
    for stream in streams:
        name = _class_name(stream.singular, taken)
        taken.add(name)
        texts.append(
            StreamTexts.of(
                stream,
                texts[0] if texts else None,
                record_class=name,
                account=choices.account,
                login_name=choices.login_name,
            )
        )
    if len(texts) > 1 and any(sample.is_graphql for sample in texts):
        raise UsageError("--parent: a stream of GraphQL with a parent is written by hand; see json= of the stream")
    return tuple(texts)


@frozen(kw_only=True)
class _Texts:
    """The values of the templates."""

    choices: Choices
    streams: tuple[StreamTexts, ...]

    @property
    def stream(self) -> StreamTexts:
        """The stream of the sample, which is the last one."""
        return self.streams[-1]

    def filled(self, name: str, **more: str) -> str:
        """A template with its values."""
        text = Template(template(f"{name}.txt")).substitute(self._values() | more)
        return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"

    def _values(self) -> dict[str, str]:
        choices, words = self.choices, " and ".join(stream.choices.name.replace("_", " ") for stream in self.streams)
        extra = self._login("extra")
        count = sum(len(stream.choices.sample.records) for stream in self.streams)
        names = ", ".join(f"`{stream.choices.name}.{stream.choices.sample.format}`" for stream in self.streams)
        samples = "a sample" if len(self.streams) == 1 else "samples"
        return {
            "name": choices.name,
            "title": self._title,
            "Class": _class_name(choices.name, IMPORTABLE),
            "package": choices.folder,
            "distribution": choices.folder.replace("_", "-"),
            "stream_words": words,
            "Stream_words": words[:1].upper() + words[1:],
            "base_url": literal(choices.base_url),
            "plugins": f"penstock-plugins[{extra}]" if extra else "penstock-plugins",
            "sample_files": names,
            "count": f"{count} record{'' if count == 1 else 's'} of {samples}",
            "config": "\n".join(self._config()),
            "records": "\n\n\n".join(stream.record_lines() for stream in self.streams),
            "settings": "\n".join(filter(None, self._settings())),
            "query": self.stream.query() if self.stream.is_graphql else "",
            "streams": "\n\n".join(self._stream(stream) for stream in self.streams),
            "connector_lines": "".join(f"    {line}\n" for line in self._connector()),
            "constants": ", ".join(stream.constant for stream in self.streams),
            "refusal_test": ""
            if choices.login == "none"
            else snippet("test", "refusal", "code", STREAM=self.stream.constant),
        }

    @property
    def _title(self) -> str:
        return self.choices.name.replace("_", " ").title()

    @property
    def _has_token(self) -> bool:
        return bool(self._login("route"))

    def _login(self, key: str) -> str:
        """One text of the kind of login."""
        choices, url = self.choices, urlsplit(self.choices.token_url)
        at_base = f"settings.url({literal(choices.token_url)})"
        values = {
            "title": self._title,
            "name": choices.name,
            "NAME": choices.name.upper(),
            "login_name": literal(choices.login_name),
            "token_url": f'settings.login_url.rstrip("/") + {literal(url.path)}' if url.scheme else at_base,
            "token_note": "  # review: where tokens are granted" if "token_url" in choices.guessed else "",
            "signed": literal(choices.signed),
        }
        return snippet("login", choices.login, key, **values)

    @property
    def _is_elsewhere(self) -> bool:
        return self._has_token and bool(urlsplit(self.choices.token_url).scheme)

    def _config(self) -> list[str]:
        accounts = f'{self.choices.account}s = ["..."]' if self.choices.account else ""
        return [text for text in (self._login("config"), accounts) if text]

    # --- source -----------------------------------------------------------------------------------------------------

    def _settings(self) -> list[str]:
        settings = [self._login("settings")]
        if self._is_elsewhere:
            url = urlsplit(self.choices.token_url)
            origin = literal(f"{url.scheme}://{url.netloc}")
            settings.append(f'    login_url: str = setting({origin}, help="where {self._title} grants tokens")')
        if self.choices.account:
            name = f"{self.choices.account}s"
            settings.append(f'    {name}: tuple[str, ...] = setting(help="the accounts to read")  # review: the help')
        return settings

    def _stream(self, stream: StreamTexts) -> str:
        words = stream.choices.name.replace("_", " ")
        lines = [
            f'name="{stream.choices.name}",',
            f'summary="{words[:1].upper()}{words[1:]} of {self._title}",',
            f"record={stream.record_class},",
            *stream.source_lines(),
        ]
        if "path" in self.choices.guessed and stream is self.stream:
            lines = [f"{line}  # review: the path" if line.startswith("path=") else line for line in lines]
        return f"{stream.constant} = Stream(\n" + "".join(f"    {line}\n" for line in lines) + ")"

    def _connector(self) -> list[str]:
        """The lines of ``Connector`` between its settings and its limits."""
        choices, lines = self.choices, []
        if choices.login != "none":
            unsure = self._login("guessed") if "login_name" in choices.guessed else ""
            lines += [f"# review: {unsure}"] if unsure else []
            lines.append(f"authenticator={self._login('authenticator')},")
            lines.append(f"statuses={{401: Refusal({literal(self._login('advice'))}, AuthenticationError)}},")
            lines.append('reason=("message", "error"),  # review: where an error states its reason')
        if self._is_elsewhere:
            lines.append('origins=("login_url",),')
        first = self.streams[0]
        if first.is_graphql:
            lines.append("judge=graphql_judge,")
        elif not first.is_report and not choices.account:
            params = first.params()
            more = f", params={literal(tuple(params.items()))}" if params else ""
            lines.append(
                f"check=lambda settings, slice_: Request(url=settings.url({literal(first.choices.path)}){more}),"
            )
        return lines

    # --- sandbox ----------------------------------------------------------------------------------------------------

    def sandbox(self) -> str:
        """The module of the sandbox, without its imports."""
        streams = self.streams
        stream_texts = [imitation.stream_values(stream) for stream in streams]
        routes = [
            *(texts["route"] for texts in stream_texts),
            *(['f"POST {TOKEN_PATH}": token'] if self._has_token else []),
        ]
        methods = [
            self._login("attribute"),
            self._admit_method(),
            imitation.truth(streams),
            *(texts["code"] for texts in stream_texts),
            self._login("route"),
        ]
        constants = [*(texts["constants"] for texts in stream_texts), *self._constants()]
        rows = [imitation.row_function(stream) for stream in streams]
        moving = [imitation.moving(stream) for stream in streams]
        is_paged = any(stream.choices.paging != "none" for stream in streams)
        text = self.filled(
            "sandbox.py",
            sandbox_what="on each day" if self.stream.is_report else "in pages" if is_paged else "all at once",
            constants="\n".join(filter(None, constants)),
            methods="\n\n".join(filter(None, methods)),
            routes="".join(f"        {route},\n" for line in routes for route in line.split(", ")),
            functions="\n\n\n".join(filter(None, [*rows, *moving, "# helpers"])),
            sandbox_settings="".join(f"        {setting},\n" for setting in self._sandbox_settings()),
        )
        helpers = "".join(f"\n\n\n{helper}" for helper in imitation.helpers(text))
        return text.replace("\n\n\n# helpers", helpers).replace("\n\n\n\n", "\n\n")

    def _constants(self) -> list[str]:
        """The constants of the sandbox beside those of its streams."""
        choices, constants = self.choices, []
        if any(stream.choices.paging != "none" for stream in self.streams):
            constants.append(f"SIZE = {imitation.size_of_page(self.streams)}  # records of a page")
        constants.append(self._login("constants"))
        if choices.account:
            constants.append(f"ACCOUNTS = {literal(imitation.accounts(self.streams))}")
        if self._has_token:
            constants.append(f"TOKEN_PATH = {literal(urlsplit(choices.token_url).path)}")
        if self.stream.on_demand:
            constants.append('FILES = "/files"')
        return constants

    def _admit_method(self) -> str:
        """The method that refuses wrong credentials. A login, and the file of a report, are requested without any."""
        admit = self._login("admit")
        if not admit:
            return ""
        is_open = [
            *(["request.path == TOKEN_PATH"] if self._has_token else []),
            *(["request.path.startswith(FILES)"] if self.stream.on_demand else []),
        ]
        if is_open:
            admit = f"        if {' or '.join(is_open)}:\n            return\n{admit}"
        return f"    def admit(self, request):\n{admit}"

    def _sandbox_settings(self) -> list[str]:
        choices = self.choices
        settings = [
            self._login("sandbox"),
            '"login_url": "{base_url}"' if self._is_elsewhere else "",
            f'"{choices.account}s": list(ACCOUNTS)' if choices.account else "",
            '"requests_per_second": 200.0',
        ]
        return ", ".join(filter(None, settings)).split(", ")


def _class_name(name: str, taken: frozenset[str] | set[str]) -> str:
    camel = "".join(word.capitalize() for word in name.split("_"))
    return f"{camel}Record" if camel in taken else camel
