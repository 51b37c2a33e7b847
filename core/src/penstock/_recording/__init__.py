"""
The exchanges of a run, kept in a directory, and replayed in a later run.

``recorder`` writes, ``replay`` reads. ``bodies`` is what is kept of responses and of links to downloads, ``masking``
what they hide. Recorder and replay are each a :class:`penstock._fetch.exchange_recording.ExchangeRecording`, which
sees a call before its request is signed and repeated.
"""
