"""
The decision whether a command begins a job, resumes one or is refused: a pure function of what the outbox holds.
"""

from collections.abc import Mapping

from attrs import frozen

from penstock.redact import mask

CALL = "this call"  # a job whose only row is the parameters
STDIN = "stdin"
LIST = "this list of rows"  # of a Python program

REFUSED_AFTER_UNKNOWN = "refused after an unknown attempt"  # a state of rows that may have arrived with that attempt


@frozen(kw_only=True)
class JobKey:
    """
    The identity of a job: source, action, and a digest of the input. ``what``: its name in messages.

    ``destination``, the address without the row's own values, is not part of the key: sending the rows of an unfinished
    job to another address requires confirmation.
    """

    source: str
    action: str
    digest: str
    what: str
    destination: str = ""


@frozen(kw_only=True)
class PreviousJob:
    """The last job of a key in the outbox. ``counts``: rows by state; rows found ``sending`` count as unknown."""

    number: int
    started_at: str
    finished: bool
    destination: str
    counts: Mapping[str, int]

    @property
    def may_have_arrived(self) -> bool:
        """Whether the provider may have some of its rows."""
        return any(count for state, count in self.counts.items() if state != "refused")


@frozen
class OtherJob:
    """An unfinished job of another key, whose rows a command that resumes may mean."""

    source: str
    action: str
    started_at: str


@frozen
class Start:
    """Begin a new job, in place of the one with this number."""

    replaces: int | None = None


@frozen
class Resume:
    """Resume the job of this number. ``is_finished``: it was finished before."""

    number: int
    is_finished: bool


@frozen
class SendNothing:
    """Send nothing, for this reason."""

    reason: str


def decide(
    key: JobKey, previous: PreviousJob | None, *, other: OtherJob | None, resume: bool, confirmed: bool
) -> Start | Resume | SendNothing:
    """
    The decision for a command with this key. No row that the provider may have is sent twice without confirmation.

    ``resume``: the command resumes a job. ``confirmed``: the command may send to another address.
    """
    if previous is None:
        if resume and other is not None:
            return SendNothing(_begun_otherwise(key, other))
        return Start()
    elsewhere = previous.destination not in ("", mask(key.destination))
    if not previous.may_have_arrived:
        resumes = resume and not elsewhere and previous.counts  # a job without a row may have ended before it had any
        return Resume(previous.number, previous.finished) if resumes else Start(previous.number)
    if elsewhere and not confirmed and (resume or not previous.finished):
        return SendNothing(_elsewhere(key, previous))
    if resume:
        return Resume(previous.number, previous.finished)
    return Start(previous.number) if previous.finished or elsewhere else SendNothing(_unfinished(key, previous))


def _unfinished(key: JobKey, previous: PreviousJob) -> str:
    return (
        f"{key.what} was begun at {previous.started_at[:19]} UTC for {key.source} {key.action} and is not "
        f"finished ({_states(previous.counts)}). Nothing was sent now. --resume sends the rows that were not sent; "
        "--retry-unknown also sends rows again that may have arrived."
    )


def _elsewhere(key: JobKey, previous: PreviousJob) -> str:
    return (
        f"{key.what} was begun at {previous.started_at[:19]} UTC for {key.source} {key.action}, and its rows went to "
        f"{previous.destination} ({_states(previous.counts)}). Now they would go to {key.destination}. Nothing was "
        "sent.\n"
        "If that is another system (prod after test): --yes without --resume sends all rows to it.\n"
        "If it is the same one under a new address: --resume --yes sends the rows that were not sent.\n"
        "Otherwise: restore base_url and the other settings of the address."
    )


def _begun_otherwise(key: JobKey, other: OtherJob) -> str:
    begun = f"that was begun at {other.started_at[:19]} UTC for {other.source} {other.action}"
    if (other.source, other.action) == (key.source, key.action):
        why = f"{key.what} or the parameters beside it are not those of the job {begun}, so there is nothing to resume."
        remedy = "Restore the rows and parameters of that job."
    else:
        why = f"there is no job of {key.source} {key.action} to resume, and one of the same rows {begun}."
        remedy = "To resume that one, use these names; if it has others now, look at the provider which rows arrived."
    anew = "Without the option all rows are sent as a new job, including those sent then."
    return f"{why} Nothing was sent. {remedy} {anew}"


def _states(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none was sent yet"
