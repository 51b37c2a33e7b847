"""
The Python API: :class:`penstock.Project`, and the modules that carry out its methods.

For several methods:

- ``project`` and ``setup``: the class; its plugins and configuration
- ``selected_jobs``: what a call of ``plan`` or ``run`` selects
- ``target_query`` and ``used_targets``: the targets that a call looks at; those that were used last

For one method each, of the same name, and beside it:

- ``run``, ``run_result``; ``workers``, ``recordings`` and ``notify``: its options of these names
- ``status`` and its ``problems``
- ``totals``: also ``partitions``
- ``history``: ``runs``, ``rejected`` and ``changes``
- ``forget`` and ``erase``: rows, and personal columns in rows
- ``plan``, ``read``, ``check``, ``act``, ``adopt``, ``verify``

``function_trials`` calls each function of a connector once, for ``penstock connectors`` and the kit. The results are in
``penstock.results``.
"""
