"""What a config asks for, told before it is trained: every tensor, what it costs, what it weighs.

Nothing is worked out on paper. The networks and stages are the ones that `training_run` trains, put together for black
stand-in clips of the right size; two training steps of each stage are run with `engine.train_step`, on fake tensors
where they are large (shapes and types without numbers, so that the configured batch costs nothing), while hooks look at
what passes, FLOPs are counted and the bytes that are alive at once are added up. So the printout cannot drift from the code.
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
    """Everything worth knowing about a config before it is trained, as text.

    Args:
      config: the resolved config.
      begun: the config of the run that would go on.

    Returns:
      Sections: the config with what differs from the defaults, tensors, networks, stages, drawing, sizes on disk.

    Raises:
      UserError: the config names data or a CLIP folder that cannot be used; missing prepared clips are only noted.
    """
    data = look_at_data(config)
    foretold, precision = foreseen(config, begun)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        line = Line(foretold, data, Path(folder))
        stages = [measure(line, name) for name in line.stages]
        if _is_for_this_processor(config):
            with threads(config.num_threads or None):
                stages = [timed(line, stage) for stage in stages]
        sections = [
            f"{config.name}: a dry run. Nothing is trained, nothing is written.",
            config_section(config),
            line_section(data, line),
            *tensor_sections(stages),
            sampling_section(line),
            networks_section(line, stages),
            stages_section(foretold, data, stages, precision),
            memory_section(stages),
            disk_section(data, line, stages),
        ]
    return "\n\n".join(sections) + "\n"


def _is_for_this_processor(config: Config) -> bool:
    try:
        return device_for(config.device).type == "cpu"
    except UserError:  # for another machine
        return False
