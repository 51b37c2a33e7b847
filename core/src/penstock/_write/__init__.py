"""
Writes to providers: rows to requests, the outbox, receipts.
"""
