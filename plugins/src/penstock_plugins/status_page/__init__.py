"""
The command ``penstock page``: the ledgers of the targets as one HTML file.

The modules: ``content`` (reads them through the Python API), with ``stream_content`` and ``attention_entries``;
``render`` (puts the result, the style sheet and the scripts into page.html); ``command`` (writes the file, or serves it
on this machine).
"""
