"""
HTTP: the scheduling of requests, and their signing, sending, retrying and judging.

The modules:
- ``call``: the values between a task and its client
- ``scheduler``: which call is made when, and the fetching threads
- ``client``: one source's client, which builds the chain of the following ones
- ``exchange_recording``: the interface of what records its calls, or replays them
- ``peers``: the other processes of a run
- ``read_operation``: what is counted and reported of a read
- ``retry``: the loop of attempts
- ``retry_policy``: the decision about the next attempt
- ``limits``: deadline and retries of the run, rate of the source
- ``auth``: signs an attempt
- ``token_store``: tokens kept between runs
- ``transport``: one attempt over urllib3
- ``attempt``: the connection that an attempt uses, and what it observes there
- ``deadlines``: when attempts must end
- ``origin``: where a request may go
- ``connections``: pools, TLS and proxies
- ``body``: the body of a response, bounded and decompressed
- ``network_errors``: the messages of failed attempts
- ``verdict``: the verdict on a response
"""
