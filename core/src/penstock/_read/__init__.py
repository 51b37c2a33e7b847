"""
The read of one slice: its pages and reports are decoded, counted and passed to the writers of its partitions.

``reader`` has the steps. It uses ``components`` (the stream's decoder, paginator and poller), ``on_demand`` (reports),
``listing`` (the pages of one request), ``loader`` (rows into the writers of a ``result``), ``reconcile`` (counts) and
``unread``.
"""
