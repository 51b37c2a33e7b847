"""
JSON lines on standard output, one partition at a time: an aborted one is never printed.

There is no ledger, so each run writes all that it reads: at least once.
"""

import codecs
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO, Any, BinaryIO, ClassVar, cast

import msgspec
from attrs import field, frozen
from penstock import BaseSink, BaseTarget, Batch, Layout, LedgerEntry, OutputClosedError, Partition, TargetError
from penstock.commands.process import discard_output, is_closed, standard_output

from penstock_plugins.files.disk import explained, file_errors
from penstock_plugins.files.jsonl import encode_lines

_IN_MEMORY_BYTES = 16 << 20  # of one partition; a larger one is held in a temporary file


class _Text(io.RawIOBase):
    """A standard output without bytes, such as ``contextlib.redirect_stdout`` sets: lines are written as text."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a block may end inside a character

    def write(self, content: Any) -> int:
        standard_output().write(self._decode(content))
        return len(content)


def _standard_output() -> BinaryIO:
    buffer: BinaryIO | None = getattr(standard_output(), "buffer", None)
    return buffer if buffer is not None else cast(BinaryIO, _Text())


@contextmanager
def output_errors(output: IO[Any]) -> Iterator[None]:
    """Raises OutputClosedError if the reader has closed standard output, and the errors of a file."""
    try:
        yield
    except BrokenPipeError:
        discard_output(output)
        raise OutputClosedError("standard output was closed by its reader; the run ends here") from None
    except OSError as error:
        raise explained(error, "standard output") from error


@frozen(kw_only=True)
class StdoutSink(BaseSink):
    """Each line begins with ``_stream`` if the run has several streams."""

    keeps_ledger: ClassVar[bool] = False

    output: Callable[[], BinaryIO] = field(default=_standard_output, repr=False)

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "StdoutTarget":
        """Raises TargetError where standard output is closed: rows would be lost."""
        if self.output is _standard_output and is_closed(standard_output()):
            raise TargetError("standard output is closed. Redirect it to a file, or name another target")
        return StdoutTarget(self.output(), name_streams=len(set(streams)) > 1)


class StdoutTarget(BaseTarget):
    def __init__(self, output: BinaryIO, *, name_streams: bool) -> None:
        self._output = output
        self._name_streams = name_streams

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "StdoutWriter":
        return StdoutWriter(self, self._name_streams)

    def put(self, content: IO[bytes]) -> None:
        """Raises OutputClosedError, and the errors of a file."""
        with output_errors(self._output):
            while block := content.read(1 << 20):
                self._output.write(block)
            self._output.flush()


class StdoutWriter:
    """One partition, held back until it is committed."""

    def __init__(self, target: StdoutTarget, name_streams: bool) -> None:
        self._target = target
        self._name_streams = name_streams
        self._held = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 (closed by commit or abort)

    def write(self, batch: Batch) -> None:
        lines = encode_lines(batch.rows)
        if self._name_streams and lines:
            # A line break comes between records only, so what follows one is the brace that opens the next.
            name = b'{"_stream":' + msgspec.json.encode(batch.layout.stream) + b","
            lines = name + lines[1:].replace(b"\n{", b"\n" + name)
        with file_errors(Path(gettempdir())):
            self._held.write(lines)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        with self._held:
            self._held.seek(0)
            self._target.put(self._held)
        return entry

    def abort(self) -> None:
        self._held.close()
