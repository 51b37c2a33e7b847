"""
Validation of the connectors, streams and actions that a plugin declares, before any request is sent.

Each problem is one line: the stream or action, what was found, and what to write instead. All problems are reported at
once. No record class is compiled here, because this runs whenever a connector is used.

The modules: ``connectors``, ``streams`` and ``actions``, one for each kind of declaration; ``columns``, ``components``,
``related`` and ``templates`` for what a stream declares; and ``declared``, what every declaration is checked for.
"""
