"""
``penstock new``: a connector made from a sample answer.

``command`` asks the questions and writes the files, ``sample`` finds the records and the envelope of the answer,
``infer`` guesses the record class, ``package`` fills the templates.
"""
