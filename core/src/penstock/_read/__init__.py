"""
The read of one slice: its pages and reports are decoded, counted and passed to the writers of its partitions.

The modules:
- ``context``: what all readings of a slice share
- ``reader``: a slice, read again where a reading contradicts itself
- ``slice_reading``: one reading, step by step
- ``ceilings``: the parts of a slice that reached a ceiling
- ``halves``: a slice in two, where its listing reached a ceiling
- ``clock_lag``: how old a response is by our clock
- ``components``: the row builder of a stream, its paginator and poller
- ``on_demand``: reports that are submitted and polled
- ``report_adoption``: those of a job that earlier runs submitted
- ``listing``: the pages of one request
- ``listing_checks``: its counts, and the checks that its pages are consistent
- ``loader``: pages into chunks of rows
- ``chunk_writer``: chunks into the writers of their partitions, or held until their slice is known to be whole
- ``counts``: of a partition and a stream
- ``slice_counts``: what a reading counts, and the checks at its end
- ``result``: its result
- ``undeclared_members``: members that state something about the listing, and that nothing reads
"""
