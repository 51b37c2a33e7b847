"""
Lines of text about the result of a run, for the person who started it.
"""

from penstock._run_report.report import RunReport
from penstock.names import counted


def summary_line(report: RunReport) -> str:
    """The run in one line: the delivered records and partitions, then failures and notices."""
    phrases = ["the reader of standard output closed it"] if report.output_closed else []
    carried = report.total("carried")  # the plan and the progress do not count them
    phrases += [
        counted(report.total("records"), "record"),
        f"{report.total('delivered') - carried} of {counted(report.total('planned') - carried, 'partition')} delivered",
    ]
    if report.total("final"):
        phrases.append(f"{report.total('final')} final")
    counters = ("failed", "rejected", "repeated", "truncated")
    phrases.extend(f"{report.total(name)} {name}" for name in counters if report.total(name))
    if report.total("unread_values"):
        phrases.append(f"{counted(report.total('unread_values'), 'value')} not read")
    if retries := report.total("retries"):
        phrases.append(f"{retries} retr{'y' if retries == 1 else 'ies'}")
    unknown = sorted({name for stream in report.streams.values() for name in stream.unknown_members})
    if unknown:
        phrases.append(f"unknown members {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}")
    if report.deadline:
        phrases.append("deadline reached, the next run goes on")
    if report.parked:
        phrases.append(f"left for a later run: {', '.join(report.parked)}")
    return (
        f"{report.status}: {', '.join(phrases)}, {counted(report.total('requests'), 'request')}, {report.seconds:.1f} s"
    )


def rejected_line(report: RunReport) -> str | None:
    """The numbers of rejected records and of values not read, by stream, and the command that lists them."""
    if not report.rejected_or_unread:
        return None
    places = [
        f"{source}.{stream}: "
        + " and ".join(
            f"{counted(number, noun)} {outcome}"
            for number, noun, outcome in (
                (counts.rejected, "record", "rejected"),
                (counts.unread_values, "value", "not read"),
            )
            if number
        )
        for (source, stream), counts in report.streams.items()
        if counts.rejected or counts.unread_values
    ]
    examples = [stream.unread_example for stream in report.streams.values() if stream.unread_example]
    explanations = ["`penstock rejected list` shows why"] if report.total("rejected") else []
    if report.total("unread_values"):
        explanations.append(
            f"a value that is not read is null, and kept in _extra{f' ({examples[0]})' if examples else ''}"
        )
    return f"{'; '.join(places)}. {'; '.join(explanations)}"


def missing_measures_line(report: RunReport) -> str | None:
    """The measures that earlier readings have and that no record has any more, by stream."""
    places = [
        f"{source}.{stream}: no record has {name} any more, and members that no column reads are "
        f"{', '.join(members[:5])}{' ...' if len(members) > 5 else ''}"
        for (source, stream), counts in report.streams.items()
        for name, members in counts.missing_measures.items()
    ]
    if not places:
        return None
    return f"{'; '.join(places)}. If one of them is meant, its column needs that member; the days are then read again"


def truncated_line(report: RunReport) -> str | None:
    """The number of partitions truncated at the provider's ceiling, by stream."""
    places = [
        f"{source}.{stream}: {counted(counts.truncated, 'partition')} truncated"
        for (source, stream), counts in report.streams.items()
        if counts.truncated
    ]
    if not places:
        return None
    return f"{'; '.join(places)}. The provider lists no more than was delivered; there may be more records"


def replaced_notices(report: RunReport) -> list[str]:
    """A notice for each stream whose key may not identify a record."""
    return [
        f"{source}.{stream}: {counts.replaced} of {counted(counts.fetched, 'record')} replaced an earlier one of "
        f"the same reading that had the same key and other values"
        f"{f', such as {counts.replaced_example}' if counts.replaced_example else ''}. Either the provider changed "
        "them while they were read, which is no fault; or the key of the stream does not identify a record, and "
        "rows are lost: correct the key in the connector, then run once with --full"
        for (source, stream), counts in report.streams.items()
        if counts.has_ambiguous_key
    ]
