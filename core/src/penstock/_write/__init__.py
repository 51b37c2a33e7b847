"""
Writes to providers: rows to requests, the outbox, receipts.

The modules: ``job`` joins ``rows`` (the input), ``outbox`` (what was sent) and ``sender`` (the loop). Values only:
``parameters`` (a row's texts to typed values), ``requests`` (these to requests), ``outcomes`` (a response to
receipts).
"""
