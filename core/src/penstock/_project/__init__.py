"""
The Python API: :class:`penstock.Project`, and the modules that it is built from.

``api`` has the class and ``setup`` its plugins and configuration. Runs: ``running`` (``run``, ``plan``) with ``jobs``,
``selection``, ``recorded``, ``workers``, ``notify`` and ``run_result``; ``records``. Writes: ``act``. Targets:
``targets`` (which of them), ``status``, ``problems``, ``ledger_contents``, ``forget`` and ``erase`` (of
``locked_targets``), ``verify``, ``adopt``. The results of the latter methods are in ``penstock.project.results``.
"""
