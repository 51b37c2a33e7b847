"""Typed columns: records as an Arrow stream. Needs pyarrow, the extra ``arrow``."""
