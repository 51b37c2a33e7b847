"""
The exchanges of a run, kept in a directory, and a later run that is answered from there.

``recorder`` writes, ``replay`` reads; ``masking`` is what a recording hides. Both stand around the making of a call, at
the place that :class:`penstock._fetch.client.Tape` describes.
"""
