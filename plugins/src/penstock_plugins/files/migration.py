"""
Targets of files of development versions (decision 72).
"""

from contextlib import suppress
from pathlib import Path

from penstock import Partition, fault_point

from penstock_plugins.files.datapackage import FILE_NAME, is_ours
from penstock_plugins.files.disk import (
    file_errors,
    file_name,
    former_pair_name,
    make_directories,
    move,
    pair_name,
    replace_text,
    sync_directory,
)
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.source_files import OWNER_FILE, OWNER_FILE_TEXT, SourceFiles

LAYOUT = "2"  # of the directories; of the first one, they were named ``<column>=<value>``


def move_to_this_layout(files: SourceFiles, ledger: FileLedger) -> None:
    """
    Move the files of a target of an earlier version to their places.

    After a kill it is repeated: moved files are at their new places already.
    """
    directory, source = files.directory, files.source
    fact = f"layout of {source}"
    if ledger.fact(fact) == LAYOUT:
        return
    with file_errors(directory):
        emptied: set[Path] = set()
        for old, new in ledger.moves(source, _place_of):
            if (directory / old).exists():
                make_directories((directory / new).parent)
                move(files.path(old), files.path(new))
                sync_directory((directory / new).parent)
                emptied.add((directory / old).parent)
        for folder in sorted(emptied, reverse=True):
            for path in (folder, *folder.parents[: len(folder.relative_to(directory).parts) - 3]):
                with suppress(OSError):
                    path.rmdir()
        for package in (directory / file_name(source)).glob(f"*/{FILE_NAME}"):
            if is_ours(package.read_bytes()):
                replace_text(package.with_name(OWNER_FILE), OWNER_FILE_TEXT)
                package.unlink()
    fault_point("files.moved")
    ledger.move(source, _place_of, fact, LAYOUT)


def _place_of(place: str, partition: Partition) -> str:
    """The new place of an earlier version's file of a partition or an account."""
    names = {former_pair_name(column, value): pair_name(column, value) for column, value in partition.values}
    return "/".join(names.get(name, name) for name in place.split("/"))
