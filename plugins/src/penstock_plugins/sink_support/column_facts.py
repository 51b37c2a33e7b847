"""
What is declared about a column, for the descriptions of files.
"""

from typing import Any

from penstock import Column


def facts_of(column: Column) -> dict[str, Any]:
    """The facts beside name and type, as values for JSON; what is not declared is left out."""
    facts = {
        "zone": "not stated by the provider" if column.type == "datetime" and column.zone == "naive" else None,
        "description": column.description or None,
        "unit": column.unit or None,
        "member": column.member if column.member != column.name else None,
        "additive": column.additive if column.type in ("integer", "decimal") else None,
        "personal": column.personal or None,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}
