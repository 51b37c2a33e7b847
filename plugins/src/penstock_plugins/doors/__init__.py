"""
Doors: penstock as a part of other tools, and other tools as a part of penstock.

Singer and Airbyte are commands, any Singer target is a sink, dlt and Dagster are functions for Python programs.
"""
