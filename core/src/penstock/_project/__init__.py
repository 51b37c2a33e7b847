"""
The Python API: :class:`penstock.Project`, and the modules that it is built from.

``project`` has the class, and ``setup`` its plugins and configuration. Each method is carried out by the module of its
name, or of ``history``. ``run`` and ``plan`` begin with ``selected_jobs`` (what a call selects); a run also has
``workers``, ``notify`` and ``used_targets``, and its result is in ``run_result``. What looks at targets begins with
``target_query`` (which of them); ``status`` has ``problems``, too, and ``totals`` also lists partitions. ``check``
tries targets, and by ``credentials`` sources. Beside them: ``function_trials`` (each function of a connector called
once, for ``penstock connectors`` and the kit). The results are in ``penstock.results``.
"""
