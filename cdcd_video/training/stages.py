"""What is trained, one after the other, each as a task of the engine: CLIP, codec, the eye for steps, diffusion."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from cdcd_video.config import Config, DenoiserTrainConfig, TrainConfig
from cdcd_video.contrast_terms import Temperatures, weighted_terms_of
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.pairs import PairIndices, draw_pairs, load_frames
from cdcd_video.data.shots import Shots
from cdcd_video.data.store import Clips
from cdcd_video.diffusion.process import Chain
from cdcd_video.engine import distributed
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.engine.runtime import seed_for, to_device
from cdcd_video.metrics.features.networks import lpips_network
from cdcd_video.metrics.latent import health
from cdcd_video.metrics.latent.space import space_figures
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.clip.built_in import PIXEL_MEAN, PIXEL_STD, clip_objective
from cdcd_video.networks.codec.codec_loss import codec_objective, decoder_objective
from cdcd_video.networks.codec.frame_codec import Codec, CodeSpace
from cdcd_video.networks.codec.perceptual import Critic, Picture
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepEye, eye_objective
from cdcd_video.objective import diffusion_objective, with_own_source
from cdcd_video.records import CodePair, FramePair, LossTerms, RowGenerator
from cdcd_video.sampling.code_sampler import CodeWalk
from cdcd_video.training import rollout_health
from cdcd_video.training.codec_metrics import codec_figures
from cdcd_video.training.step_draws import draw_refine, draw_step

NUM_SEEN = 4096
"""Training frames that a rival fixes its scales by."""


def settings_for(train: TrainConfig, num_threads: int) -> TrainSettings:
    """A stage's section of a settled config -> the engine's settings."""
    assert train.precision != "auto", "a config is settled before it is trained; see `settled`"
    return TrainSettings(
        num_steps=train.num_steps,
        accumulate=train.accumulate,
        learning_rate=train.learning_rate,
        warmup_steps=train.warmup_steps,
        final_lr_ratio=train.final_lr_ratio,
        weight_decay=train.weight_decay,
        clip_norm=train.clip_norm,
        ema_decay=train.ema_decay,
        precision=train.precision,
        log_every=train.log_every,
        eval_every=train.evaluate_every,
        checkpoint_every=train.checkpoint_every,
        num_threads=num_threads or None,
    )


def step_rng(seed: int, stage: str, step: int) -> np.random.Generator:
    """The generator of one step's examples."""
    return np.random.Generator(np.random.Philox(key=seed_for(seed, stage, "examples", step)))


def clip_lengths(clips: Clips) -> np.ndarray:
    """Frames of each clip."""
    return np.array([clips.num_frames(clip) for clip in range(len(clips))])


def picture_of(config: Config, critic: Critic | None, device: torch.device) -> Picture | None:
    """What drawn frames pay beside L1 and L2; None where nothing has a weight.

    Raises:
      UserError: LPIPS is asked for and its weights are not here.
    """
    cfg = config.picture
    if not cfg.perceptual and critic is None:
        return None
    network = lpips_network(cfg.trunk, device) if cfg.perceptual else None
    distance = (lambda drawn, truth: network(drawn, truth).flatten()) if network else None
    return Picture(cfg, distance, critic)


class ClipStage:
    """Trains the built-in CLIP on single frames and their captions."""

    name = "clip"

    def __init__(self, model: nn.Module, tokenizer, config: Config, clips: Clips, val: Clips, device: torch.device):
        self.model, self.tokenizer, self.config, self.clips, self.val = model.to(device), tokenizer, config, clips, val
        self.batch_size, self.device = config.train.clip.batch_size, device
        self.lengths = clip_lengths(clips)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random frames of random clips, each with one of its captions."""
        rng = step_rng(self.config.seed, self.name, step)
        clip = rng.integers(len(self.clips), size=self.batch_size)
        return self._examples(self.clips, clip, np.floor(rng.random(self.batch_size) * self.lengths[clip]), rng)

    def objective(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], generator: torch.Generator) -> LossTerms:
        return clip_objective(self.model, *batch, distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        """Loss and retrieval among 128 validation clips."""
        rng = step_rng(self.config.seed, "clip-val", 0)
        clip = np.arange(min(128, len(self.val)))
        examples = self._examples(self.val, clip, np.zeros(len(clip)), rng)
        terms = clip_objective(self.model, *examples, distributed.collectives())
        return {"val_clip_nats": float(terms.total), "val_retrieval": float(terms.parts["retrieval"])}

    def _examples(self, clips: Clips, clip: np.ndarray, frame: np.ndarray, rng: np.random.Generator):
        captions = [clips.captions(int(c))[rng.integers(len(clips.captions(int(c))))] for c in clip]
        number = {caption: i for i, caption in enumerate(sorted(set(captions)))}
        clip, frame, captions = map(distributed.own, (clip, frame, captions))
        (images,) = load_frames(clips, clip, frame, device=self.device)
        tokens = self.tokenizer(
            captions,
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        caption = torch.tensor([number[caption] for caption in captions])
        size = self.model.config.vision_config.image_size
        if images.shape[-1] != size:
            images = nn.functional.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(value, device=self.device).view(3, 1, 1) for value in (PIXEL_MEAN, PIXEL_STD))
        said = (tokens.input_ids, tokens.attention_mask.bool(), caption)
        return ((images - mean) / std, *(to_device(tensor, self.device) for tensor in said))


class CodecStage:
    """Trains projection, quantiser, decoder and embed head on pairs of frames; CLIP is frozen."""

    name = "codec"

    def __init__(self, codec: Codec, clip: FrozenClip, config: Config, clips: Clips, val: Clips, device: torch.device):
        self.codec, self.clip, self.config, self.clips, self.val = codec.to(device), clip, config, clips, val
        self.model: nn.Module = self.codec
        self.batch_size, self.device = config.train.codec.batch_size, device
        self.picture = picture_of(config, None, device)
        self.shots = Shots.of_clips(clips)

    def batch(self, step: int) -> FramePair:
        """Two random frames of a shot, and its first."""
        rng = step_rng(self.config.seed, self.name, step)
        pairs = draw_pairs(self.shots, self.batch_size, rng, max_gap=None, start_share=0.1)
        rows = map(distributed.own, (pairs.clip, pairs.first, pairs.source, pairs.target))
        pair = FramePair(*load_frames(self.clips, *rows, device=self.device))
        return self._with_sentences(pair, pairs.clip, rng) if self.has_contrast else pair

    @property
    def has_contrast(self) -> bool:
        """Whether the objective asks which clip a frame is from, and for its sentence."""
        return bool(self.config.codec.frame_frame or self.config.codec.frame_text)

    def objective(self, batch: FramePair, generator: torch.Generator) -> LossTerms:
        return codec_objective(self.codec, self.clip, batch, self.picture, distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        """The codec's figures on 48 validation clips, and those of the space that its codes lie in."""
        return codec_figures(
            self.codec,
            self.clip,
            self.val,
            num_clips=48,
            look=lambda at: space_figures(at.embedding, at.values, at.said),
        )

    def _with_sentences(self, pair: FramePair, clip: np.ndarray, rng: np.random.Generator) -> FramePair:
        """Drawn after the frames: these are the same, whether anybody asks for sentences or not."""
        captions = [self.clips.captions(int(c)) for c in clip]
        said = [known[rng.integers(len(known))] for known in captions]
        number = {caption: i for i, caption in enumerate(sorted(set(said)))}
        said, clip = distributed.own(said), distributed.own(clip)
        caption = torch.tensor([number[one] for one in said], device=self.device)
        own, row = np.unique(said, return_inverse=True)
        read = self.clip.read(own.tolist()).embedding[row]
        return replace(pair, clip=torch.from_numpy(clip).to(self.device), caption=caption, said=read)


class DecoderStage(CodecStage):
    """Trains the decoder on, with the codes settled: the denoiser needs only the codes, so the two can train side by side."""

    name = "decoder"
    has_contrast = False

    def __init__(
        self,
        codec: Codec,
        clip: FrozenClip,
        config: Config,
        clips: Clips,
        val: Clips,
        device: torch.device,
        critic: Critic | None = None,
    ):
        super().__init__(codec, clip, config, clips, val, device)
        self.batch_size = config.train.decoder.batch_size
        codec.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        if critic is not None:  # trained and checkpointed with the codec, and no part of it
            self.model = nn.ModuleDict({"codec": codec, "critic": critic.to(device)})
            self.picture = picture_of(config, critic, device)

    def objective(self, batch: FramePair, generator: torch.Generator) -> LossTerms:
        self.codec.quantizer.eval()  # a learned codebook would go on moving, even without gradients
        return decoder_objective(self.codec, self.clip, batch, self.picture, distributed.collectives())


class CodeStage:
    """What is trained on cached codes; neither CLIP nor the decoder is needed."""

    name: str
    batch_size: int

    def __init__(self, codec: CodeSpace, config: Config, cache: CodeCache, val: CodeCache, device: torch.device):
        self.codec, self.config = codec.to(device), config
        codec.requires_grad_(False)
        self.cache, self.val, self.device = cache, val, device

    def batch(self, step: int) -> CodePair:
        """Codes of a source frame, a target frame a random gap later, the shot's first and a far frame, and a caption."""
        return self._examples(self.cache, step_rng(self.config.seed, self.name, step), self.batch_size)

    def _examples(self, cache: CodeCache, rng: np.random.Generator, batch_size: int) -> CodePair:
        cfg = self.config.diffusion
        pairs = draw_pairs(
            cache.shots, batch_size, rng, max_gap=cfg.max_gap_frames(cache.fps), start_share=cfg.start_share
        )
        caption = np.array([cache.caption_of[c][rng.integers(len(cache.caption_of[c]))] for c in pairs.clip])
        has_first = (rng.random(batch_size) >= cfg.first_dropout) | (pairs.source == pairs.first)
        caption, has_first = distributed.own(caption), torch.from_numpy(distributed.own(has_first))
        pairs = PairIndices(**{name: distributed.own(rows) for name, rows in vars(pairs).items()})
        age_s = torch.from_numpy((pairs.source - pairs.first) / cache.fps).float()
        pair = CodePair(
            source=cache.frame_codes(pairs.clip, pairs.source),
            target=cache.frame_codes(pairs.clip, pairs.target),
            first=cache.frame_codes(pairs.clip, pairs.first),
            has_first=has_first,
            gap_s=torch.from_numpy((pairs.target - pairs.source) / cache.fps).float(),
            age_s=age_s * has_first,
            text=cache.text(caption),
            clip=torch.from_numpy(pairs.clip),
            caption=torch.from_numpy(cache.sentence[caption]),
            far=cache.frame_codes(pairs.clip, pairs.far),
            before=cache.frame_codes(pairs.clip, pairs.before),
            before_gap_s=torch.from_numpy((pairs.source - pairs.before) / cache.fps).float(),
        )
        return to_device(pair, self.device)


class EyeStage(CodeStage):
    """Trains the eye for steps on true steps."""

    name = "eye"

    def __init__(
        self, eye: StepEye, codec: CodeSpace, config: Config, cache: CodeCache, val: CodeCache, device: torch.device
    ):
        super().__init__(codec, config, cache, val, device)
        self.model = eye.to(device)
        self.batch_size = config.train.eye.batch_size

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        temperature = self.config.loss.contrast.temperature
        return eye_objective(self.model, self.codec, batch, temperature, distributed.collectives())

    def evaluate(self) -> dict[str, float]:
        """The same on 256 validation examples: how often a step finds its own sentence, and a sentence its step."""
        examples = self._examples(self.val, step_rng(self.config.seed, "eye-val", 0), 256)
        found = self.objective(examples, torch.Generator())
        return {f"val_{name}": float(value) for name, value in found.parts.items()}


class DiffusionStage(CodeStage):
    """Trains the denoiser."""

    name = "diffusion"

    def __init__(
        self,
        denoiser: Denoiser,
        codec: CodeSpace,
        process: Chain,
        config: Config,
        cache: CodeCache,
        val: CodeCache,
        device: torch.device,
        eye: StepEye | None = None,
    ):
        super().__init__(codec, config, cache, val, device)
        self.denoiser, self.process, self.eye = denoiser.to(device), process, eye
        contrast = config.loss.contrast
        self.temperatures = None
        self.model: nn.Module = denoiser
        if contrast.learn_temperature and weighted_terms_of(contrast):
            self.temperatures = Temperatures(contrast).to(device)
            # They are trained and checkpointed with the denoiser, and no part of it: drawing needs no temperature.
            self.model = nn.ModuleDict({"denoiser": denoiser, "temperatures": self.temperatures})
        self.batch_size = config.train.diffusion.batch_size
        self._spare(config.train.diffusion)
        if config.rival:
            denoiser.see(cache.some_codes(NUM_SEEN))

    def _spare(self, train: DenoiserTrainConfig) -> None:
        """How the blocks save memory or time in this stage."""
        if not self.config.rival:
            self.denoiser.keeps_activations = not train.checkpoint_activations
        if train.compile:
            for block in self.denoiser.blocks:
                block.compile()

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        cfg, reduce = self.config, distributed.collectives()
        if cfg.rival:
            return self.denoiser.learn(batch, cfg.diffusion, cfg.loss, RowGenerator(generator, reduce))
        draws = draw_step(batch, cfg.diffusion, cfg.loss, generator, reduce)
        return diffusion_objective(
            self.denoiser,
            self.process,
            self.codec,
            batch,
            draws,
            cfg.diffusion,
            cfg.loss,
            self.temperatures,
            self.eye,
            reduce,
        )

    def evaluate(self) -> dict[str, float]:
        """The training terms on 256 validation examples, and the health of single frames and roll-outs drawn for others."""
        examples = self._examples(self.val, step_rng(self.config.seed, "diffusion-val", 0), 256)
        generator = torch.Generator(self.device).manual_seed(seed_for(self.config.seed, "diffusion-val"))
        terms = {f"val_{name}": float(value) for name, value in self.objective(examples, generator).parts.items()}
        way = self.denoiser if self.config.rival else CodeWalk(self)  # which has all that a walk needs of a model
        watched = self._examples(self.val, step_rng(self.config.seed, "health", 0), rollout_health.NUM_WATCHED)
        given = (way, self.codec, self.config)
        return (
            terms
            | rollout_health.single_frames(*given, watched)
            | rollout_health.roll_outs(*given, self.val, self.device)
        )

    def alarms(self, evaluation: Mapping[str, float], progress: float) -> list[str]:
        """Whether the model or its roll-outs freeze or its latent space collapses; see `metrics.latent.health`."""
        return health.alarms(evaluation, progress)


class RefineStage(DiffusionStage):
    """Trains the denoiser on, standing on frames that it drew itself."""

    name = "refine"

    def __init__(self, denoiser: Denoiser, codec: CodeSpace, process: Chain, config: Config, *others):
        super().__init__(denoiser, codec, process, config, *others)
        self.batch_size = config.train.refine.batch_size
        self._spare(config.train.refine)

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        own_share, temperature = self.config.train.refine.own_share, self.config.sample.temperature
        reduce = distributed.collectives()
        if self.config.rival:
            dials, rows = dict(own_share=own_share, temperature=temperature), RowGenerator(generator, reduce)
            return self.denoiser.learn(batch, self.config.diffusion, self.config.loss, rows, **dials)
        draws = draw_refine(batch, generator, reduce)
        own = with_own_source(self.denoiser, self.process, batch, own_share, temperature, draws)
        return super().objective(own, generator)
