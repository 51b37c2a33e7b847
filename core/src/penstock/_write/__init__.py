"""
Writes to providers: rows to requests, the outbox, receipts.

The modules: ``action_job`` joins ``rows`` (the input, and files of output), ``outbox`` (what was sent) and ``sender``
(one request after the other). Values only: ``parameters`` (a row's texts to typed values), ``requests`` (these to
requests), ``outcomes`` (a response to receipts), ``outbox_decision`` (whether a job begins, resumes or is refused).
"""
