"""
``penstock new``: a connector made from a sample answer.

``command`` reads the choices and writes the files, ``sample`` finds the records and the envelope of the answer,
``infer`` guesses the record class, ``package`` fills the templates.
"""
