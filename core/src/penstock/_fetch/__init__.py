"""
HTTP: the scheduling of requests, and their signing, sending, retrying and judging.

The modules, in the order in which a request passes them: ``call`` (the values between a task and its client),
``scheduler`` (which call is made when, and the fetching threads), ``client`` (one source's client: it builds the chain
of the following ones), with ``recording`` (records its calls, or replays them) and ``peers`` (the other processes of a
run), ``read_operation`` (what is counted and reported of a read), ``retry`` (the loop of attempts), with
``retry_policy`` (the decision about the next one) and ``limits`` (deadline and retries of the run, rate of the source),
``auth`` (signs an attempt), with ``token_store`` (tokens kept between runs), ``transport`` (one attempt over urllib3),
with ``origin`` (where it may go), ``deadlines`` (when it must end) and ``connections``, and for the response ``body``,
``network_errors`` and ``verdict``.
"""
