"""The dry run of a config: tensors, FLOPs, memory and disk space before training.

All numbers come from running the code. The networks and stages of `training_run` are built for black stand-in clips of the right
size. Two training steps of each stage are run by `engine.train_step`, on fake tensors (shapes and types without data) where they
are large, so that the configured batch size is free. Hooks record the tensors, FLOPs are counted, and live bytes are summed.
"""

import tempfile
from pathlib import Path

import torch

from cdcd_video.config import Config
from cdcd_video.engine.runtime import device_for
from cdcd_video.errors import UserError
from cdcd_video.kernels.threads import threads
from cdcd_video.tools.dry_run.costs import disk_section, memory_section, stages_section
from cdcd_video.tools.dry_run.sections import config_section, line_section, networks_section, tensor_sections
from cdcd_video.tools.dry_run.trial_clips import look_at_data
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.tools.dry_run.trial_sampling import sampling_section
from cdcd_video.tools.dry_run.trial_steps import measure, timed
from cdcd_video.training.resolved import foreseen


def explain(config: Config, begun: Config | None = None) -> str:
    """The report of a dry run as text.

    Args:
      config: the resolved config.
      begun: the config of the run that would be continued.

    Returns:
      Sections: the config with what differs from the defaults, tensors, networks, stages, sampling, sizes on disk.

    Raises:
      UserError: the data or the CLIP folder are unusable; missing prepared clips are only noted.
    """
    data = look_at_data(config)
    planned, precision = foreseen(config, begun)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        line = Line(planned, data, Path(folder))
        stages = [measure(line, name) for name in line.stages]
        if _is_for_this_processor(config):
            with threads(config.num_threads or None):
                stages = [timed(line, stage) for stage in stages]
        sections = [
            f"{config.name}: dry run. Nothing is trained, and no file is written.",
            config_section(config),
            line_section(data, line),
            *tensor_sections(stages),
            sampling_section(line),
            networks_section(line, stages),
            stages_section(planned, data, stages, precision),
            memory_section(stages),
            disk_section(data, line, stages),
        ]
    return "\n\n".join(sections) + "\n"


def _is_for_this_processor(config: Config) -> bool:
    try:
        return device_for(config.device).type == "cpu"
    except UserError:  # the device of another machine
        return False
