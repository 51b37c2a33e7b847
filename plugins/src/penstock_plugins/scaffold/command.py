"""
The command ``penstock new``: questions, options, and the files on disk.
"""

import keyword
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import click
from penstock import UsageError, snake
from penstock.names import counted
from penstock.redact import shown_url

from penstock_plugins.scaffold.code import LOGINS
from penstock_plugins.scaffold.package import SIGNED, Choices, PackageFiles, package_files
from penstock_plugins.scaffold.sample import MAX_BYTES, Sample, read_sample
from penstock_plugins.scaffold.stream import (
    KINDS,
    PAGINGS,
    StreamChoices,
    is_of_graphql,
    usual_kind,
    usual_paging,
)

FETCH_S = 30.0
NO_STREAM_NAMES = ("data", "edges", "items", "nodes", "records", "response", "result", "results", "rows", "values")


@click.command()
@click.argument("name")
@click.option("--sample", metavar="FILE|URL", help="An answer with some records: JSON or CSV. A URL is fetched once.")
@click.option("--base-url", metavar="URL", help="Where the provider answers. Default: the origin of the sample's URL.")
@click.option("--path", metavar="PATH", help="The path of the records. Default: that of the sample's URL.")
@click.option("--stream", metavar="NAME", help="The stream's name. Default: from the sample.")
@click.option("--login", type=click.Choice(LOGINS), help="How requests are authenticated.")
@click.option("--login-name", metavar="NAME", help="Header or parameter of the key. Default: X-Api-Key, api_key.")
@click.option("--token-url", metavar="URL|PATH", help="Where OAuth grants tokens. Default: /oauth/token.")
@click.option(
    "--signed",
    metavar="TEMPLATE",
    help="What HMAC signs. Default: method, path, query, epoch_s, body, each in {braces}, in lines.",
)
@click.option("--paging", type=click.Choice(PAGINGS), help="How the answer is divided into pages.")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Records of days; what there is now; or a report of days that is submitted, polled and downloaded.",
)
@click.option("--parent", metavar="FILE|URL", help="A sample of the listing whose column --path names: /ads/{id}/days.")
@click.option("--account", metavar="COLUMN", help="Each account is requested for itself, such as advertiser_id.")
@click.option("--key", metavar="A,B", help="The columns that identify a record. Default: guessed.")
@click.option("--day", metavar="COLUMN", help="The day of a report's record. Default: guessed.")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Default: here.")
@click.option("--dry-run", is_flag=True, help="Print the files; write nothing.")
def new(name: str, sample: str | None, into: Path, dry_run: bool, **options: Any) -> None:
    """
    Write a connector for one more provider, from a sample of its answers.

    Questions cover what no option states. The package works at once, against a sandbox that serves the sample; what is
    guessed is marked "review" in its files.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} is no name of a connector; write lower-case letters, digits and _, such as acme")
    folder = into / f"connector_{name}"
    if not dry_run and _is_taken(folder):
        raise UsageError(
            f"{folder} exists already. Choose another name; or, for one more stream, another place with --into, and "
            "copy the record, the stream and the sandbox's part from there"
        )
    sample = sample or _asked("--sample", "A sample answer with some records: a file of JSON or CSV, or a URL", None)
    choices = _choices(name, sample, read_sample(_body("--sample", sample)), options)
    connector = package_files(choices)
    if dry_run:
        for path, text in connector.files.items():
            print(f"--- {choices.folder}/{path}\n{text}")
        return
    try:
        _write(folder, connector)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}. Name a directory that this user may write with --into"
        ) from None
    _summary(folder, choices, connector)


def _choices(name: str, sample: str, read: Sample, options: dict[str, Any]) -> Choices:
    """What the options state, what a sample's URL shows, and the answers to the questions for the rest."""
    base_url, path, query = _address(sample, read, options["base_url"])
    token_url = options["token_url"] or "/oauth/token"
    if "://" in token_url:
        _check_url("--token-url", token_url)
    stream = options["stream"] or _stream_name(path or sample, read)
    _check_name("--stream", stream)
    login = options["login"] or _asked("--login", "How are requests authenticated?", LOGINS)
    kind, paging = _kind_and_paging(read, stream, options)
    path = options["path"] or path
    usual_path = "/graphql" if is_of_graphql(read) else f"/{stream}"
    stated = {"path": path, "login_name": options["login_name"], "token_url": options["token_url"]}
    return Choices(
        name=name,
        base_url=base_url,
        stream=StreamChoices(
            name=stream,
            path="/" + (path or usual_path).lstrip("/"),
            kind=kind,
            paging="none" if kind == "on_demand" else paging,
            sample=read,
            query=query,
            key=tuple(filter(None, (options["key"] or "").split(","))),
            day=options["day"],
        ),
        parent=_parent(options["parent"], stream, paging),
        login=login,
        login_name=options["login_name"] or {"header": "X-Api-Key", "param": "api_key"}.get(login, ""),
        token_url=token_url,
        signed=options["signed"].replace("\\n", "\n") if options["signed"] else SIGNED,
        account=_account(options["account"]),
        guessed=frozenset(option for option, value in stated.items() if not value),
    )


class _Address(NamedTuple):
    """Where a stream is at its provider, as far as it is known. ``origin``: without a login."""

    origin: str = ""
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()


def _address(sample: str, read: Sample, base_url: str | None) -> _Address:
    """The base URL as the origin, and path and query of the stream as far as the sample shows them."""
    stated, linked = _address_of(sample), _address_of(read.url)
    base_url = base_url or stated.origin or _asked("--base-url", "Where does the provider answer?", None, linked.origin)
    _check_url("--base-url", base_url)
    base_url = base_url.rstrip("/")
    link = f"{linked.origin}{linked.path}"
    path = stated.path or (link.removeprefix(base_url) if link.startswith(f"{base_url}/") else "")
    return _Address(base_url, path, stated.query)


def _address_of(sample: str) -> _Address:
    """The address of a sample's URL; of a file none is known."""
    if not _is_url(sample):
        return _Address()
    url = urlsplit(sample)
    query = tuple(parse_qsl(url.query, keep_blank_values=True))
    return _Address(f"{url.scheme}://{url.netloc.rpartition('@')[2]}", url.path or "/", query)


def _kind_and_paging(read: Sample, stream: str, options: dict[str, Any]) -> tuple[Any, str]:
    kind = options["kind"] or _asked(
        "--kind",
        "Are these records of days, a snapshot of what there is now, or a report on demand?",
        KINDS,
        usual_kind(read, stream),
    )
    paging = options["paging"] or "none"
    if kind == "on_demand" and paging != "none" and not options["parent"]:
        raise UsageError("--kind on_demand: the records are in the report's file, which has no pages; omit --paging")
    if kind != "on_demand" and not options["paging"]:
        paging = _asked("--paging", "How is the answer divided into pages?", PAGINGS, usual_paging(read))
    return kind, paging


def _parent(sample: str | None, child: str, paging: str) -> StreamChoices | None:
    """The listing of a parent's sample. It pages as the stream does, and alone if that is a report on demand."""
    if sample is None:
        return None
    read = read_sample(_body("--parent", sample))
    _, path, query = _address_of(sample)
    name = _stream_name(path or sample, read)
    _check_name("--parent", name)
    if name == child:
        raise UsageError(f"--parent: both streams would be named {name}; name the other one with --stream")
    return StreamChoices(
        name=name, path="/" + (path or name).lstrip("/"), kind="snapshot", paging=paging, sample=read, query=query
    )


def _check_name(option: str, stream: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stream) or keyword.iskeyword(stream):
        raise UsageError(f"{option}: {stream!r} is no name; write lower-case letters, digits and _, such as clicks")


def _account(name: str | None) -> str | None:
    """The column of accounts, which may be given by its member."""
    if name is None:
        return None
    column = snake(name)
    _check_name("--account", column)
    return column


def _stream_name(address: str, sample: Sample) -> str:
    """The name of a stream, from the member of its records, or from the last segment of a file's or a URL's path."""
    file = address.rstrip("/").rpartition("/")[2].partition(".")[0]
    names = [*reversed(sample.items.split(".")), file]
    return snake(next((name for name in names if name and name.lower() not in NO_STREAM_NAMES), names[0]))


def _check_url(option: str, url: str) -> None:
    """Raises UsageError for what is no URL, and for one with a login or a query: it is written into the package."""
    try:
        address = urlsplit(url)
        is_base = address.scheme in ("http", "https") and address.hostname and "@" not in address.netloc
        fits = is_base and not address.query
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            f"{option}: found {shown_url(url)!r}, expected a URL such as https://api.example.com, without a login and "
            "without a query"
        )


def _asked(option: str, question: str, choices: tuple[str, ...] | None, usual: str = "") -> str:
    """The answer to a question; ``usual``: the one that the sample suggests. UsageError where nobody answers."""
    try:
        kind = click.Choice(choices) if choices else str
        answer: str = click.prompt(question, type=kind, default=usual or None, prompt_suffix=" ", err=True)
    except click.Abort:
        click.echo(err=True)  # ends the line of the question
        raise UsageError(f"{option} is missing, and standard input is no terminal; give the option") from None
    return answer


def _is_taken(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}. Name another directory with --into") from None


def _is_url(sample: str) -> bool:
    return sample.startswith(("http://", "https://"))


def _body(option: str, sample: str) -> bytes:
    if not _is_url(sample):
        try:
            return Path(sample).read_bytes()
        except OSError as error:
            raise UsageError(f"{option} {sample}: cannot be read: {error.strerror}") from None
    import urllib3

    try:
        response = urllib3.request("GET", sample, timeout=FETCH_S, retries=False, preload_content=False)
        body = response.read(MAX_BYTES + 1, decode_content=True)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UsageError(
            f"{option}: the URL cannot be fetched ({type(error).__name__}); save a response in a file, and give that"
        ) from None
    if response.status != 200:
        raise UsageError(
            f"{option}: the URL answered HTTP {response.status}. It is fetched without credentials: fetch it yourself, "
            "for example with curl, and give the file"
        )
    if len(body) > MAX_BYTES:
        raise UsageError(f"{option}: the response is larger than {MAX_BYTES >> 20} MiB; give a file with fewer records")
    return body


def _write(folder: Path, connector: PackageFiles) -> None:
    for path, text in connector.files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _summary(folder: Path, choices: Choices, connector: PackageFiles) -> None:
    count = len(choices.stream.sample.records)
    print(f"{folder}: {len(connector.files)} files from {counted(count, 'record')} of the sample.\n\nReview:")
    for line in connector.reviews:
        print(f"  {line}")
    paged = [stream for stream in (choices.parent, choices.stream) if stream is not None and stream.paging != "none"]
    if any(len(stream.sample.records) < 2 for stream in paged):
        print("  a sample of one record gives no second page, so a test fails: use a sample of two records or more")
    print(
        f"\nTry it:\n  pip install -e {folder}\n  penstock streams {choices.name}\n  penstock demo\n  pytest {folder}"
    )
