"""
The exchanges of a run, kept in a directory, and replayed in a later run.

``recorder`` writes, ``replay`` reads. ``bodies``, ``downloads`` and ``descriptions`` are what is kept of responses,
links to downloads, sources and requests; ``masking`` is what they hide. Recorder and replay are exchange logs, see
:class:`penstock._fetch.client.ExchangeLog`, which see a call before its request is signed and repeated.
"""
