"""
Runs by a Dask cluster of which a process is killed at a random moment, round after round.
"""

import os
import random
import time

import pytest
from test_dask import Cluster, cluster, free, world
from test_workers import Divided, eventually

__all__ = ["cluster", "world"]  # fixtures


@pytest.mark.soak
def test_kills_at_random_moments(world: Divided, cluster: Cluster) -> None:
    """
    Rounds of one run each, in which a worker, the scheduler or the client is killed at a random moment: the run after
    it leaves exactly the provider's rows. ``PENSTOCK_ROUNDS`` sets their number.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    cluster.start(workers=2)
    for _ in range(int(os.environ.get("PENSTOCK_ROUNDS", "100"))):
        world.app.slow_s = 0.02
        process = world.start(engine=cluster.engine, workers=2, full=True)
        time.sleep(chance.uniform(1.0, 5.0))
        victim = chance.choice(["worker", "scheduler", "client"])
        if victim == "worker":
            cluster.workers.pop(0).kill()
            cluster.add()
        elif victim == "scheduler":
            cluster.close()
            cluster.workers.clear()
            cluster.start(workers=2)
        else:
            process.kill()
        killed = time.monotonic()
        process.communicate(timeout=120)
        world.app.slow_s = 0.0
        code, report = eventually(lambda: free(world.run(workers=2, full=True)), 120)
        assert code == 0, (seed, victim, report)
        world.assert_true()
        assert world.app.at_once <= 4
        print(f"{victim} killed, {time.monotonic() - killed:.0f} s until the next run had ended")
