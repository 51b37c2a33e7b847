"""
HTTP: the scheduling of requests, and their signing, sending, retrying and judging.
"""
