"""
The Python API: :class:`penstock.Project`, the results of its methods, and the modules that it is built from.

``api`` has the class and ``setup`` its plugins and configuration. Runs: ``running`` (``run``, ``plan``) with ``jobs``,
``selection``, ``recorded``, ``workers``, ``notify`` and ``run_result``; ``records``. Targets: ``targets`` (which of
them), ``status``, ``problems``, ``delivered``, ``forget`` and ``erase`` (of ``locked_targets``), ``verify``, ``adopt``,
with ``results``.
"""
