"""
``penstock new``: a connector made from a sample answer.

The modules: ``command`` (reads the choices and writes the files), ``sample`` (finds the records and the envelope of the
answer), ``infer`` (guesses the record class, a ``guess`` for each column, by ``text_rules`` and ``patterns`` of names),
``stream`` (declares a stream), ``imitation`` (the sandbox), ``package`` (fills the templates) and ``code`` (values as
Python).
"""
