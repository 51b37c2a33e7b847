"""
HTTP: the scheduling of requests, and their signing, sending, retrying and judging.

The modules, in the order in which a request passes them: ``call`` (the values between a reading and its client),
``scheduler`` (which call is made when) and ``client_queue`` (the threads of a client), ``client`` (joins the others for
one source), ``retry`` with ``retry_policy``, ``stated_wait`` and ``budget``, ``rate_limit``,
``auth`` (with ``token_store``), ``origin``, ``transport`` with ``attempt``, ``connections`` and ``deadlines``, and for
the response ``body``, ``network_errors`` and ``verdict``.
"""
