"""
The command ``penstock page``: the ledgers of the targets as one HTML file.

``content`` reads them through the Python API, ``render`` puts the result, ``page.css`` and ``page.js`` into
``page.html``, ``command`` writes the file or serves it on this machine.
"""
