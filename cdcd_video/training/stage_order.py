"""The stages, their order, what each builds on, and which of them a config trains."""

from cdcd_video.config import Config

BUILDS_ON: dict[str, tuple[str, ...]] = {
    "clip": (),
    "codec": ("clip",),
    "decoder": ("clip", "codec"),
    "eye": ("clip", "codec"),
    "diffusion": ("clip", "codec", "eye"),
    "refine": ("clip", "codec", "eye", "diffusion"),
}
"""Each stage, in order, with those whose weights it needs. `decoder` and `diffusion` need `codec` and not each other: two
processes can train them side by side."""
STAGES = tuple(BUILDS_ON)
ON_CODES = ("eye", "diffusion", "refine")
"""Stages without pixels: a cache of latents is enough for them."""


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that a config trains, in order."""
    left_out = {"clip", "codec", "decoder"} if config.reuse or config.data.kind == "latents" else set()
    if config.clip.kind == "pretrained":
        left_out.add("clip")
    if not has_step_encoder(config):
        left_out.add("eye")
    if not config.train.refine.num_steps:
        left_out.add("refine")
    return tuple(stage for stage in STAGES if stage not in left_out)


def has_step_encoder(config: Config) -> bool:
    """Whether a term uses the step-text encoder."""
    return config.loss.contrast.text_eye == "step" and config.loss.contrast.frame_text > 0
