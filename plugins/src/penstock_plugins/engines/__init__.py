"""
Engines: where the parts of a divided run are carried out.
"""
