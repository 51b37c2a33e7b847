"""
HTTP: which request is made when, and how one is signed, sent, retried and judged.
"""
