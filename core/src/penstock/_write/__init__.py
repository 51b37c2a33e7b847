"""
Writes to providers: rows to requests, the outbox, receipts.

``job`` joins ``rows`` (the input), ``requests`` (values only), ``sender`` (the loop) and ``outbox`` (what was sent).
"""
