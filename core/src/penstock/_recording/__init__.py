"""
The exchanges of a run, kept in a directory, and replayed in a later run.

``recorder`` writes, ``replay`` reads. ``bodies`` is what is kept of responses and of links to downloads, ``masking``
what they hide. Recorder and replay are exchange logs, see :class:`penstock._fetch.client.ExchangeLog`, which see a call
before its request is signed and repeated.
"""
