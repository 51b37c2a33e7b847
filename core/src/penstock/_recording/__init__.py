"""
The exchanges of a run, kept in a directory, and replayed in a later run.

``recorder`` writes, ``replay`` reads; ``masking`` is what a recording hides. Both are tapes, see
:class:`penstock._fetch.client.Tape`: a tape sees a call before its request is signed and repeated.
"""
