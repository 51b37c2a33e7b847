"""
Keep the data package of a source up to date: what its columns are, and which files there are.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice

from penstock import Layout

from penstock_plugins.files.datapackage import FILE_NAME, MOST_FILES, is_ours, with_resources
from penstock_plugins.files.disk import file_errors, file_name, replace_text
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.source_files import SourceFiles


def describe(
    files: SourceFiles, ledger: FileLedger, written: Mapping[str, Layout], layouts: Mapping[str, Sequence[Layout]]
) -> None:
    """
    Update the source's data package to the files after this run. ``written``: the streams of this run by name, derived
    ones included; ``layouts``: by the stream whose partitions have the files, its own and those of the derived ones.
    """
    path = files.directory / file_name(files.source) / FILE_NAME
    with file_errors(path), suppress(FileNotFoundError):
        if not written or (not files.changed and path.exists()):
            return
        former = path.read_bytes() if path.exists() else b""
        if former and not is_ours(former):
            return
        parents = {layout.stream: parent for parent, family in layouts.items() for layout in family}
        resources = {
            stream: (written[stream], _files_of(files, ledger, parents[stream], stream))
            for stream in sorted(written)
            if file_name(stream) in files.changed or not former
        }
        if resources and (package := with_resources(former, files.source, files.codec, resources)):
            replace_text(path, package)
        elif resources:
            path.unlink(missing_ok=True)


def _files_of(files: SourceFiles, ledger: FileLedger, parent: str, stream: str) -> list[str]:
    """The stream's files, relative to the source's directory, in the order of their partitions."""
    source = f"{file_name(files.source)}/"
    places = ledger.places(files.source, parent, f"{source}{file_name(stream)}/")
    return [place.removeprefix(source) for place in islice(places, MOST_FILES)]
