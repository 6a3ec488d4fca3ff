"""Stages that are trained on cached codes, as tasks of the engine: the step encoder, and the denoiser in two stages."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from cdcd_video.config import Config, DenoiserTrainConfig
from cdcd_video.contrast_terms import Temperatures, cosine_terms_of, heads_of, needs_of
from cdcd_video.data.buckets import Caches, buckets_of, mean_figures, sampled_bucket
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.pairs import PairIndices, sample_last, sample_pairs, with_near_sources
from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.engine import distributed
from cdcd_video.engine.runtime import seed_for, to_device
from cdcd_video.metrics.latent import health
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.step_encoder import StepTextEncoder, step_encoder_objective
from cdcd_video.objective import diffusion_objective, with_own_source
from cdcd_video.records import CodePair, FrameAfter, LastFrame, LossTerms, RowGenerator
from cdcd_video.sampling.code_sampler import DiscreteSampler
from cdcd_video.training import rollout_health
from cdcd_video.training.stage_settings import step_rng
from cdcd_video.training.step_draws import make_refine_draws, make_step_draws
from cdcd_video.training.wrong_sentences import SentenceMaker

RISES_BY = 1.001
"""A bound that is greater by less than this factor has not risen: it is of 256 examples, of weights that go on moving."""
NUM_NORMALIZATION_FRAMES = 4096
"""Training frames that a baseline fixes its scales by."""


class CodeStage:
    """What is trained on cached codes; neither CLIP nor the decoder is needed."""

    name: str
    batch_size: int
    needs: frozenset[str] = frozenset()
    """What contrastive terms ask of a batch; see `contrast_terms.needs_of`."""

    def __init__(self, codec: CodeSpace, config: Config, cache: Caches, val: Caches, device: torch.device):
        self.codec, self.config = codec.to(device), config
        codec.requires_grad_(False)
        self.cache, self.val, self.device = cache, val, device
        self.sentence_makers = {bucket: SentenceMaker() for bucket in (*buckets_of(cache), *buckets_of(val))}

    def batch(self, step: int) -> CodePair:
        """Codes of a source frame, a target frame a random gap later, the shot's first and a far frame, and a caption."""
        rng = step_rng(self.config.seed, self.name, step)
        return self._examples(self._sampled(rng), rng, self.batch_size, progress=self._progress(step))

    def _sampled(self, rng: np.random.Generator) -> CodeCache:
        """The bucket that a batch is of."""
        buckets = buckets_of(self.cache)
        return buckets[sampled_bucket(buckets, rng)]

    def _evaluated(self, figures_of: Callable[[CodeCache, int], dict[str, float]]) -> dict[str, float]:
        """Figures of validation examples, the mean over the sizes of frames.

        Args:
          figures_of: of a bucket, and the number of buckets that share the examples.
        """
        buckets = buckets_of(self.val)
        return mean_figures([figures_of(bucket, len(buckets)) for bucket in buckets])

    def _progress(self, step: int) -> float:
        train = getattr(self.config.train, self.name)
        return step / (train.num_steps * train.accumulate)

    def _examples(
        self,
        cache: CodeCache,
        rng: np.random.Generator,
        batch_size: int,
        generations: int = 1,
        progress: float = 0.0,
    ) -> CodePair:
        cfg = self.config.diffusion
        gaps = dict(max_gap=cfg.max_gap_frames(cache.fps), generations=generations)
        pairs = sample_pairs(cache.shots, batch_size, rng, start_share=cfg.start_share, **gaps)
        data = self.config.data
        if data.kind == "sprites" and data.late_share:
            clip = pairs.clip
            pairs = with_near_sources(
                pairs,
                lambda earlier, later: cache.seconds(clip, earlier, later).numpy(),
                data.num_frames / data.fps,
                rng,
            )
        caption = np.array([cache.caption_of[c][rng.integers(len(cache.caption_of[c]))] for c in pairs.clip.tolist()])
        has_first = (rng.random(batch_size) >= cfg.first_dropout) | (pairs.source == pairs.first)
        wrong = self.sentence_makers[cache].sentences(cache, caption, rng) if "counterfactual" in self.needs else None
        last, has_last = (
            map(distributed.own, sample_last(pairs, cfg.last_share, rng)) if cfg.last_share else (None, None)
        )
        caption, has_first = distributed.own(caption), torch.from_numpy(distributed.own(has_first))
        pairs = PairIndices(**{name: distributed.own(rows) for name, rows in vars(pairs).items()})
        age_s = cache.seconds(pairs.clip, pairs.first, pairs.source)
        pair = CodePair(
            source=cache.frame_codes(pairs.clip, pairs.source),
            target=cache.frame_codes(pairs.clip, pairs.target),
            first=cache.frame_codes(pairs.clip, pairs.first),
            has_first=has_first,
            gap_s=cache.seconds(pairs.clip, pairs.source, pairs.target),
            age_s=age_s * has_first,
            text=cache.text(caption),
            clip=torch.from_numpy(pairs.clip),
            caption=torch.from_numpy(cache.sentence[caption]),
            far=cache.frame_codes(pairs.clip, pairs.far),
            before=cache.frame_codes(pairs.clip, pairs.before),
            before_gap_s=cache.seconds(pairs.clip, pairs.before, pairs.source),
            generations=generations,
            counterfactual=wrong,
            after=FrameAfter(cache.frame_codes(pairs.clip, pairs.after), torch.from_numpy(pairs.after > pairs.target))
            if "after" in self.needs
            else None,
            last=None
            if last is None
            else LastFrame(
                cache.frame_codes(pairs.clip, last),
                torch.from_numpy(has_last),
                cache.seconds(pairs.clip, pairs.target, last),
            ),
            progress=progress,
            grid=cache.grid,
        )
        return to_device(pair, self.device)


class StepEncoderStage(CodeStage):
    """Trains the step-text encoder on true steps."""

    name = "eye"

    def __init__(
        self,
        step_encoder: StepTextEncoder,
        codec: CodeSpace,
        config: Config,
        cache: Caches,
        val: Caches,
        device: torch.device,
    ):
        super().__init__(codec, config, cache, val, device)
        self.step_encoder = step_encoder.to(device)
        self.model: nn.Module = self.step_encoder
        self.batch_size = config.train.eye.batch_size

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        temperature = self.config.loss.contrast.temperature
        return step_encoder_objective(self.step_encoder, self.codec, batch, temperature, distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        """The loss on 256 validation examples, and how often a step is matched to its caption and a caption to its step."""

        def figures_of(val: CodeCache, num_sizes: int) -> dict[str, float]:
            examples = self._examples(val, step_rng(self.config.seed, "eye-val", 0), 256 // num_sizes)
            found = self.objective(examples, torch.Generator())
            return {f"val_{name}": float(value) for name, value in found.parts.items()}

        return self._evaluated(figures_of)


class DiffusionStage(CodeStage):
    """Trains the denoiser."""

    name = "diffusion"
    pictures: Callable[[], Any]
    keep: Callable[[Mapping[str, torch.Tensor], int], None]
    denoiser: Any  # a `Denoiser`, or a `Baseline` in its place
    reference: Any
    """The denoiser as it was when the stage began, for terms that compare with it; None in a stage without them."""

    def __init__(
        self,
        denoiser: nn.Module,
        codec: CodeSpace,
        process: DiscreteProcess,
        config: Config,
        cache: Caches,
        val: Caches,
        device: torch.device,
        step_encoder: StepTextEncoder | None = None,
    ):
        super().__init__(codec, config, cache, val, device)
        self.denoiser, self.process, self.step_encoder = denoiser.to(device), process, step_encoder
        contrast = config.loss.contrast
        self.needs, self.reference = needs_of(contrast), None
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(config.seed, "diffusion", "heads"))
            self.heads = heads_of(contrast, denoiser, codec).to(device)
        learns = contrast.learn_temperature and cosine_terms_of(contrast)
        self.temperatures = Temperatures(contrast).to(device) if learns else None
        # Trained and checkpointed with the denoiser, but not part of it: sampling needs no temperature and no head.
        parts = {"temperatures": self.temperatures, "heads": self.heads if len(self.heads) else None}
        beside = {name: part for name, part in parts.items() if part is not None}
        self.model: nn.Module = nn.ModuleDict({"denoiser": denoiser, **beside}) if beside else denoiser
        self.batch_size = config.train.diffusion.batch_size
        self._spare(config.train.diffusion)
        if config.baseline:
            self.denoiser.fit_normalization(self._some_patches(buckets_of(cache)))

    def _some_patches(self, caches: Sequence[CodeCache]) -> Int[torch.Tensor, "M g"]:
        """Codes of the patches of training frames, of every size alike."""
        frames = (cache.some_codes(NUM_NORMALIZATION_FRAMES // len(caches)) for cache in caches)
        return torch.cat([codes.unflatten(1, (-1, self.codec.groups)).flatten(0, 1) for codes in frames])

    def _spare(self, train: DenoiserTrainConfig) -> None:
        """Applies the settings of this stage that save memory or time."""
        if not self.config.baseline:
            self.denoiser.keeps_activations = not train.checkpoint_activations
        if train.compile:
            for block in self.denoiser.blocks:
                block.compile()

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        cfg, reduce = self.config, distributed.collectives()
        if cfg.baseline:
            return self.denoiser.learn(batch, cfg.diffusion, cfg.loss, RowGenerator(generator, reduce))
        draws = make_step_draws(batch, cfg.diffusion, cfg.loss, generator, reduce)
        return diffusion_objective(
            self.denoiser,
            self.process,
            self.codec,
            batch,
            draws,
            cfg.diffusion,
            cfg.loss,
            self.temperatures,
            self.step_encoder,
            reduce,
            reference=self.reference,
            heads=self.heads,
        )

    def begin(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Continues with the weights of an earlier stage, which are those of the reference too."""
        self.model.load_state_dict(weights)
        if self.reference is not None:
            self.reference.load_state_dict(self.denoiser.state_dict())

    def evaluate(self) -> dict[str, float]:
        """The training terms on 256 validation examples, and the health of sampled frames and roll-outs."""
        return self._evaluated(self._figures_of)

    def _figures_of(self, val: CodeCache, num_sizes: int) -> dict[str, float]:
        examples = self._examples(val, step_rng(self.config.seed, "diffusion-val", 0), 256 // num_sizes)
        generator = torch.Generator(self.device).manual_seed(seed_for(self.config.seed, "diffusion-val"))
        terms = {f"val_{name}": float(value) for name, value in self.objective(examples, generator).parts.items()}
        sampler = self.denoiser
        if self.config.baseline is None:
            sampler = DiscreteSampler(self.denoiser, self.process, self.codec, self.config)
        num_watched = rollout_health.NUM_WATCHED // num_sizes
        examples = self._examples(val, step_rng(self.config.seed, "health", 0), num_watched)
        given = (sampler, self.codec, self.config)
        return (
            terms | rollout_health.single_frames(*given, examples) | rollout_health.roll_outs(*given, val, self.device)
        )

    def trends(self, before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
        """How often in a row the validation bound has risen; see `metrics.latent.health`."""
        if "val_bound" not in now:  # a baseline without a bound
            return {}
        has_risen = now["val_bound"] > RISES_BY * before.get("val_bound", math.inf)
        return {"val_bound_rises": before.get("val_bound_rises", 0.0) + 1 if has_risen else 0.0}

    def alarms(self, evaluation: Mapping[str, float], progress: float) -> list[str]:
        """Whether the model or its roll-outs freeze, its latent space collapses, or it learns its clips by heart; see
        `metrics.latent.health`.
        """
        return health.alarms(evaluation, progress)


class RefineStage(DiffusionStage):
    """Trains the denoiser further, with source frames that it sampled itself."""

    name = "refine"

    def __init__(self, denoiser: nn.Module, codec: CodeSpace, process: DiscreteProcess, config: Config, *others):
        super().__init__(denoiser, codec, process, config, *others)
        self.batch_size = config.train.refine.batch_size
        self._spare(config.train.refine)
        if "reference" in self.needs:
            self.reference = copy.deepcopy(denoiser).eval().requires_grad_(False)

    def batch(self, step: int) -> CodePair:
        """As in the stage before; the frame before the source lies as many gaps back as the model samples frames."""
        baseline, most = self.config.baseline, self.config.train.refine.generations
        most = most if baseline is None or baseline.refines_generations else 1
        rng = step_rng(self.config.seed, self.name, step)
        return self._examples(self._sampled(rng), rng, self.batch_size, 1 + step % most, self._progress(step))

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        own_share, temperature = self.config.train.refine.own_share, self.config.sample.temperature
        reduce = distributed.collectives()
        if self.config.baseline:
            options, rows = dict(own_share=own_share, temperature=temperature), RowGenerator(generator, reduce)
            return self.denoiser.learn(batch, self.config.diffusion, self.config.loss, rows, **options)
        draws = make_refine_draws(batch, generator, reduce)
        own = with_own_source(self.denoiser, self.process, batch, own_share, temperature, draws)
        return super().objective(own, generator)
