"""The engine's settings of a stage, and the random numbers that choose its examples."""

import numpy as np

from cdcd_video.config import TrainConfig
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.engine.runtime import seed_for


def settings_for(train: TrainConfig, num_threads: int) -> TrainSettings:
    """A stage's section of a resolved config -> the engine's settings."""
    assert train.precision != "auto", "a config is settled before it is trained; see `settled`"
    return TrainSettings(
        num_steps=train.num_steps,
        accumulate=train.accumulate,
        optimizer=train.optimizer,
        muon_ratio=train.muon_ratio,
        learning_rate=train.learning_rate,
        warmup_steps=train.warmup_steps,
        schedule=train.schedule,
        decay_share=train.decay_share,
        final_lr_ratio=train.final_lr_ratio,
        weight_decay=train.weight_decay,
        clip_norm=train.clip_norm,
        ema_decay=train.ema_decay,
        precision=train.precision,
        log_every=train.log_every,
        eval_every=train.evaluate_every,
        checkpoint_every=train.checkpoint_every,
        keep_best="val_bound" if getattr(train, "keep", "last") == "best" else None,
        num_threads=num_threads or None,
    )


def step_rng(seed: int, stage: str, step: int) -> np.random.Generator:
    """The random numbers of one step's examples."""
    return np.random.Generator(np.random.Philox(key=seed_for(seed, stage, "examples", step)))
