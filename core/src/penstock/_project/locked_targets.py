"""
The targets of a source, each locked, for a call that changes what was delivered.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from attrs import frozen

from penstock._project.targets import SourceLedger, TargetQuery
from penstock._run.context import run_id
from penstock.errors import LockHeldError, TargetError, UsageError
from penstock.names import did_you_mean
from penstock.sinks import Target


@frozen
class LockedTarget(SourceLedger):
    """A target, opened and locked for a source by ``run_id``."""

    run_id: str
    target: Target


@contextmanager
def locked_targets(query: TargetQuery, source: str) -> Iterator[list[LockedTarget]]:
    """
    The targets of a source that were written, each locked. A target without a ledger is left: a notice, or a UsageError
    if there is no other one. A target that has two names is opened once.
    """
    notice = query.notices.add
    with ExitStack() as stack:
        targets: list[LockedTarget] = []
        without_ledger: list[str] = []
        for selected in query.targets:
            shown, sink = selected.sink.shown, selected.sink.open()
            if not selected.keeps_ledger:
                without_ledger.append(shown)
                continue
            with query.leaving_out(selected):
                if (former := sink.open_readonly(source)) is None:
                    continue
                former.close()
                own_id = run_id(query.clock.now())
                try:
                    target = sink.open(source, own_id)
                except LockHeldError as error:  # it names the run that holds the lock
                    same = next((locked for locked in targets if locked.run_id in str(error)), None)
                    if same is None:
                        raise
                    notice(f"{shown} and {same.target_name} are one target: it was changed once")
                    continue
                stack.callback(target.close)
                for text in target.notices:
                    notice(text)
                assert target.ledger is not None  # else ``keeps_ledger`` is false
                targets.append(LockedTarget(shown, source, target.ledger, own_id, target))
        if query.failed and not targets:
            raise TargetError(f"none of the targets of {source} can be used: {'; '.join(query.failed)}")
        for shown in without_ledger:
            text = f"{shown} keeps no ledger: the next run reads everything, and writes it anew"
            if not targets:
                raise UsageError(text)
            notice(f"{text}. It was left as it is")
        yield targets


def delivered_streams(targets: Sequence[LockedTarget], source: str, stream: str | None) -> list[str]:
    """The streams with a row in a ledger; ``stream``: this one only. Raises UsageError where there is none."""
    streams = sorted({name for locked in targets for name in locked.streams})
    if not streams:
        where = ", ".join(locked.target_name for locked in targets)
        raise UsageError(f"nothing of {source} was delivered{' to ' if where else ''}{where} yet")
    if stream is not None and stream not in streams:
        raise UsageError(
            f"no {source}.{stream} was delivered yet.{did_you_mean(stream, streams)} There is {', '.join(streams)}; a "
            "stream that travels with its parent is forgotten with it"
        )
    return streams if stream is None else [stream]
