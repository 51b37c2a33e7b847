"""
The settings of what a target's ledger retains, the same for every sink with a ledger of its own.
"""

from typing import TYPE_CHECKING

from attrs import frozen, validators
from penstock import setting

if TYPE_CHECKING:
    from penstock.ledger import Retention


@frozen(kw_only=True, eq=False, repr=False)
class RetentionSettings:
    keep_runs: int = setting(1000, help="records of runs that the ledger keeps of a source", validator=validators.ge(1))
    keep_run_days: int = setting(400, help="days that it keeps them", validator=validators.ge(1))
    keep_restatement_days: int | None = setting(
        None,
        help="days that the ledger keeps what new readings changed; default: always",
        validator=validators.optional(validators.ge(1)),
    )

    def retention(self) -> "Retention":
        from penstock.ledger import Retention

        return Retention(runs=self.keep_runs, run_days=self.keep_run_days, restatement_days=self.keep_restatement_days)
