"""
Installed plugins: found, checked and looked up by name.

The modules:
- ``loading``: import, registration with pluggy
- ``offers``: the values that plugins offer
- ``registry``: the offers by name
- ``sink_calls``: sinks and targets, opened and checked
- ``plugin_errors``: messages about plugins, and exceptions of their code
- ``built_in``: penstock's own commands

Declarations are checked by ``penstock._plugins.validation``.
"""
