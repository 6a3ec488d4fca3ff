"""The shards of a cache as tasks of datatrove (Penedo et al. 2024), an engine that runs on one machine, Slurm or Ray.

A task is the ordinary `encode` of one shard, so the result does not depend on the engine. Here the engine is the one of a
single machine; docs/data.md shows the same step given to its Slurm executor.
"""

import dataclasses
from collections.abc import Iterable

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from cdcd_video.storage.folder_lock import folder_lock
from data_prep.encoding import encode, summary
from data_prep.job import Job


class EncodeShard(PipelineStep):
    """Encodes the shard with the number that the engine gives.

    Args:
      job: what is asked for; its shards are the engine's tasks.
    """

    name, type = "cdcd_video latents", "ENCODER"

    def __init__(self, job: Job):
        super().__init__()
        self.job = job

    def run(self, data: Iterable | None, rank: int = 0, world_size: int = 1) -> Iterable:
        """Called by the engine, once per task."""
        with self.track_time():
            encode(dataclasses.replace(self.job, shard=rank, num_shards=world_size))
        return data or ()


def run(job: Job, processes: int) -> str:
    """Runs all shards on this machine.

    Args:
      job: what is asked for.
      processes: tasks at a time.

    Returns:
      One line that says what came out.

    Raises:
      UserError: another process makes this cache.
    """
    logs = job.out.with_name(f"{job.out.name}.logs")
    # A task that was done once is done in no time (its blocks are there), so the engine's own marks are not asked.
    executor = LocalPipelineExecutor(
        [EncodeShard(job)], tasks=job.num_shards, workers=processes, logging_dir=str(logs), skip_completed=False
    )
    with folder_lock(logs):  # each task holds its shard, and this the engine
        executor.run()
    return f"{summary(job, 0)}; logs of the tasks: {logs}"
