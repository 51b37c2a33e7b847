"""
Engines: where the shards of a divided run are carried out.
"""
