"""
The configuration: ``penstock.toml``, ``--set`` and the environment, checked and converted to settings classes.

A value comes from the file, the environment (``PENSTOCK_SOURCE__TALROO__CUSTOMER_SECRET``) or the command line
(``--set source.talroo.base_url=...``); the later one wins. A value of the file has a TOML type and is converted
strictly (``"5"`` is not a number); a text from elsewhere is parsed as the type of its key.

An error lists all problems of a configuration, each with its place, the key's path, what was found and what was
expected.

The modules, in the order in which a value passes them: ``raw_sections`` (the file, the environment and ``--set``),
``section_check`` (a section made into its settings class), ``toml_values`` (a value made into the type of its key),
``config`` (the sections by name, each checked when a command needs it), ``pipeline`` and ``source`` (what they are
made into). Beside it: ``target_text`` (``jsonl:DIR``, ``postgresql://...``), and ``json_schema`` (of penstock.toml, for
editors).
"""
