"""Kills a job's worker at random moments: how often the job ends succeeded with the digest it has when nothing happens.

    python -m benchmarks.kill_worker [--kills 20] [--seed 1] [--database postgresql+psycopg://...]

Prints each moment, the attempt that the job ended in, and the seconds from the kill to the end.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

from peft import LoraConfig

from tests.adapter_builders import adapter, llama
from tests.job_builders import Workshop, workshop

STEPS, PAUSE = 20, 0.1
LONGEST = 4.5
"""Seconds after the worker is there within which it is killed: from before it begins to after it published."""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--kills", type=int, default=20)
    given.add_argument("--seed", type=int, default=1)
    given.add_argument("--database")
    options = given.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="adapters-kill-"))
    try:
        llama(folder / "base")
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
        adapter(folder / "lora", folder / "base", config)
        settings = {"ADAPTERS_DATABASE_URL": options.database} if options.database else {}
        with workshop(folder / "home", folder / "base", folder / "lora", **settings) as shop:
            _kills(shop, options.kills, random.Random(options.seed))
    finally:
        shutil.rmtree(folder)


def _kills(shop: Workshop, kills: int, moments: random.Random) -> None:
    with shop.worker():
        expected = shop.ended(shop.submit(steps=STEPS, pause=PAUSE)).result
    same = 0
    for number in range(1, kills + 1):
        job, moment = shop.submit(steps=STEPS, pause=PAUSE), moments.uniform(0, LONGEST)
        with shop.worker() as worker:
            time.sleep(moment)
            worker.kill()
        killed = time.monotonic()
        with shop.worker():
            ended = shop.ended(job)
        good = ended.result == expected
        same += good
        took = time.monotonic() - killed
        print(f"{number:3}  killed after {moment:.2f} s  attempt {ended.attempts}  {took:5.1f} s  {ended.state} {good}")
    print(f"{same} of {kills} ended succeeded with the same digest")


if __name__ == "__main__":
    main()
