"""
A run that is divided among processes (``--workers``, ``--engine``).

The ``coordinator`` opens the targets, which locks them (of many sources the first ones, as any run), and has an engine
carry out an assignment for each shard. A ``worker`` makes the jobs of its shard from the configuration, as any process
does, and runs them as any run does. It sends events to the coordinator, and requests tokens and the state of the run:
see ``messages``. Workers on other machines than the coordinator's write to a target that it has open: see
``shared_targets``. Which jobs can be divided: see ``divisible``.
"""
