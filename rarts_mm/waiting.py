"""How long OpenMP's threads spin before they sleep, when they wait for each other.

GNU's OpenMP, which torch's wheels for Linux bring, spins for so long that one other busy process makes
everything several times slower: a thread that has no core is waited for by one that keeps its own busy.
Its number of spins is read when the library is loaded, which importing torch does.
"""

import os

# On two cores as fast as the default on an idle machine, 1.3 to 1.6 times as fast with one busy process
# beside it (benchmarks/waiting_threads.py). Fewer spins win more there, and lose where nothing else runs.
SPINS = 100_000


def spin_shortly() -> None:
    """Let this process, if it has not imported torch yet, and those it starts spin for a short time.

    What the user has set in the environment stays.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
