"""
``penstock new``: a connector made from a sample answer.

In the order in which they work:

- ``command``: the options, the questions, and the files on disk
- ``sample``: the records and the envelope of an answer, by ``personal`` without personal values and secrets
- ``infer``: the record class, a ``guess`` for each column; of texts by ``text_rules``
- ``stream``: the declaration of a stream
- ``imitation``: the sandbox
- ``package``: all files; ``code`` fills ``templates``, and writes literals and imports of Python
"""
