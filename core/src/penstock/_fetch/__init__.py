"""
HTTP: the scheduling of requests, and their signing, sending, retrying and judging.

The modules, in the order in which a request passes them: ``scheduler`` (which call is made when), ``client`` (joins the
others for one source), ``retry``, ``rate_limit``, ``auth`` (with ``token_store``), ``origin``, ``transport``, and for
the response ``verdict``.
"""
