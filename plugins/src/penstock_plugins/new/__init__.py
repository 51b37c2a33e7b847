"""
``penstock new``: a connector made from a sample answer.
"""
