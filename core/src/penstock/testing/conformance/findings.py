"""
What :func:`~penstock.testing.conformance.conforms` finds wrong, by the requirement that is not met.
"""

from collections.abc import Mapping, Sequence

from penstock._run_report.report import RunReport

CHECKS: Mapping[str, str] = {
    "declarations": "a stream, an action or a setting cannot work (`penstock connectors` reports the same)",
    "exit code": "the first run ends with another exit code than 0, also where it does not end in time",
    "nothing to read": "the sandbox has no record of a stream, so that nothing was tried",
    "rejected": "a record is rejected, or a value is not read",
    "repeated": "a record comes twice",
    "unknown members": "a record has a member that the record class lacks",
    "key": "two rows of a partition, or of two accounts of a stream of changes, have the same key",
    "truth": "a row is not one of `truth`'s, an amount of it is an inexact float, or there is no truth to compare with",
    "paths": "no answer has a member that the envelope or the paginator names (`total`, `pages`, `more`, `member`)",
    "origin": "a request goes to another place than `base_url`, or comes from the connector itself",
    "second page": "a paginator saw no second page with records, so that paging was not tried",
    "moved record": "a record of the first page that comes again on a shorter last one is delivered twice",
    "stopped": "a run that was stopped leaves other rows than those of the first run in a partition",
    "resumed": "the run after a stopped one does not end with the rows of the first run",
    "final": "days that were read after they closed are requested again",
    "faults": "a fault that passes (`faults=`) costs a row, or the exit code 0; a token that runs out is one of them",
    "wrong secret": "a run with a wrong secret ends otherwise than with 3 (or a ConfigError), or delivers something",
    "check of a wrong secret": "the check accepts it, or raises neither AuthenticationError nor ConfigError",
    "secret shown": "the start of a wrong secret is in a message or in the report",
    "check": "the check fails with the right secrets, or sends, beside a login, anything but a GET (GraphQL: a POST)",
    "login": "the login goes to another place than `base_url`",
}
"""What :func:`conforms` tries, by name, and when it fails."""


class Finding(str):
    """What is wrong, and by which of ``CHECKS``."""

    check: str

    def __new__(cls, check: str, text: str) -> "Finding":
        finding = super().__new__(cls, text)
        assert check in CHECKS, check
        finding.check = check
        return finding


class NotConforming(AssertionError):
    """The requirements that a connector does not meet: ``problems``."""

    def __init__(self, connector: str, problems: Sequence[Finding]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{connector} does not keep what every connector must:\n{listed}")


def exit_findings(check: str, report: RunReport, what: str, code: int) -> list[Finding]:
    if report.exit_code == code:
        return []
    texts = "; ".join(dict.fromkeys(f"{error['error']}: {error['reason']}" for error in report.errors[:3]))
    return [
        Finding(check, f"{what} ended with {report.exit_code} instead of {code}: {texts or 'no error was reported'}")
    ]
