"""
The configuration: ``penstock.toml``, ``--set`` and the environment, checked and converted to settings classes.

A value comes from the file, the environment (``PENSTOCK_SOURCE__TALROO__CUSTOMER_SECRET``) or the command line
(``--set source.talroo.base_url=...``); the later one wins. A value of the file has a TOML type and is converted
strictly (``"5"`` is not a number); a text from elsewhere is parsed as the type of its key.

An error lists all problems of a configuration, each with its place, the key's path, what was found and what was
expected.

The modules:
- ``raw_sections``: the sections of the file, the environment and the command line
- ``section_check``: a section made into its settings class
- ``toml_values``: a value made into the type of its key
- ``config``: the sections by name, each checked when a command needs it
- ``pipeline``, ``source``: what sections are made into
- ``target_text``: a target as the command line names it
- ``json_schema``: the schema of penstock.toml, for editors
"""
