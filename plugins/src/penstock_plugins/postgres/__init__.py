"""
The sink for Postgres 14 or newer. Every module in here but :mod:`.settings` needs psycopg (the extra ``postgres``).
"""
