"""
The read of one slice: its pages and reports are decoded, counted and passed to the writers of its partitions.

``SliceReading._read_pages`` fetches a page, ``Listing`` compares it with those before it, ``Loader.load`` makes chunks
of rows of it by ``RowBuilder.build``, and ``ChunkWriter.write`` passes these to the writers of their partitions. After
the last page ``SliceCounts`` gives the ``ReadResult``, which is committed in ``_run``.

- ``context``: what all readings of a slice share
- ``reader``: a slice, read again where a reading contradicts itself
- ``slice_reading``: one reading, step by step; a slice whose response reaches a ceiling is read in halves
- ``ceilings``: the parts of a slice that reached a ceiling, by which it is halved
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
