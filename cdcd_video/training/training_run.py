"""Training: builds data, networks and stages from a config, and trains the stages one after the other in a run folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from cdcd_video.config import Config, PictureConfig, TrainConfig, config_file
from cdcd_video.config.fingerprint import identity_text, text_digest
from cdcd_video.data.buckets import buckets_of
from cdcd_video.data.store import StoredClips
from cdcd_video.engine import checkpoint, distributed, loop, runtime
from cdcd_video.engine.train_step import Task
from cdcd_video.errors import UserError, say
from cdcd_video.model import (
    Model,
    build_codec,
    build_critic,
    build_denoiser,
    build_process,
    build_step_encoder,
    folder_of,
)
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.clip import built_in as builtin_clip
from cdcd_video.networks.codec import start_thresholds
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.storage.memory import user_error_when_out
from cdcd_video.training.code_stages import DiffusionStage, RefineStage, StepEncoderStage
from cdcd_video.training.contact_sheets import decoded_rows, sampled_rows
from cdcd_video.training.hub_card import FILE, renew_card
from cdcd_video.training.initial_weights import PARTS, begin_with, saved_tokenizer
from cdcd_video.training.latent_encoder import FrameEncoder, codes_digest
from cdcd_video.training.model_card import write_card
from cdcd_video.training.model_writer import with_weights, write_part
from cdcd_video.training.moving_sample import write_moving_sample
from cdcd_video.training.pixel_stages import ClipStage, CodecStage, DecoderStage
from cdcd_video.training.preflight import check_training
from cdcd_video.training.run_folder import claimed, earlier_num_steps, repeated_too_often
from cdcd_video.training.stage_order import ON_CODES, stages_of
from cdcd_video.training.stage_settings import settings_for
from cdcd_video.training.trained_parts import (
    take_over,
    trained_clip,
    trained_codec,
    trained_step_encoder,
    weights_digest,
)
from cdcd_video.training.training_data import Latents, cached, open_clips, open_latents, stand_in_of
from cdcd_video.training.wrong_sentences import makers_of_world
from cdcd_video.video import contact_sheet

NUM_FINAL_SAMPLES, NUM_EVAL_SAMPLES = 6, 2
"""Validation clips sampled at the end of a run, and at each evaluation of the denoiser."""

Built = TypeVar("Built")


class TrainingRun:
    """A run folder and everything trained in it.

    Args:
      config: values `auto` are resolved here, see `settled`.
      out: the run folder; made if missing. A folder with a run of another config is refused.
      command: the command line, for run.json.
      cache: the folder for the codes of the clips; None: in the run folder. Runs that share data and codec may share it.
      watch: loggers, of `engine.watch.WATCHERS`.
      shard: how several processes share a model, of `engine.parallel.SHARDS`; the result does not depend on it.
    """

    def __init__(
        self,
        config: Config,
        out: Path,
        command: Sequence[str],
        cache: Path | None = None,
        watch: Sequence[str] = (),
        shard: str = "ddp",
    ):
        self.config, self.out, self.folder, self.cache = config, out, out / "model", cache or out / "cache"
        self.watch, self.shard = watch, shard
        self.device = runtime.device_for(config.device)
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.latents = open_latents(config, self.device) if config.data.kind == "latents" else None
        self.stand_in = stand_in_of(config, self.latents)
        mine = distributed.by_main(lambda: claimed(out, config, self.device, command, self.stand_in))
        # The main process has resolved what was `auto`.
        self.config = mine or config_file.load(out / "config.yaml", Config)
        distributed.check_alike("the config", int(text_digest(config_file.dump(self.config))[:12], 16))
        if self.latents is not None:
            self.data_digest = self.latents.caches[0].digest
            return
        self.clips, self.val = open_clips(config, "train"), open_clips(config, "val")
        if min(len(self.clips), len(self.val)) == 0:
            raise UserError("the data has no training or no validation clips; raise data.num_clips and num_val_clips")
        every = (*buckets_of(self.clips), *buckets_of(self.val))
        stored = [clips for clips in every if isinstance(clips, StoredClips)]
        distributed.by_main(lambda: list(map(StoredClips.check, stored)))
        for clips in stored:
            clips.check(trusted=not distributed.is_main())
        self.data_digest = self.clips.digest()

    @property
    def can_sample(self) -> bool:
        """Whether the model folder has CLIP and codec too; with `data: latents` only if `reuse` copies them."""
        return (self.folder / "codec.safetensors").is_file()

    def train(self, stages: Sequence[str] | None = None) -> None:
        """Trains the given stages (None: all) that are not finished, each from its newest checkpoint.

        Raises:
          UserError: a stage needs pixels, but there are only latents; or see `engine.loop.train`.
        """
        without_pixels = [stage for stage in stages or () if self.latents is not None and stage not in ON_CODES]
        if without_pixels:
            assert self.config.data.kind == "latents"
            raise UserError(
                f"the stage {without_pixels[0]} needs pixels, but {self.config.data.path} holds only latents; train it on a "
                f"prepared folder. Latents are enough for {', '.join(ON_CODES)}"
            )
        if self.config.init:
            folder_of(self.config.init)  # reports a missing model now, and not after the first stage
        if reuse := self.config.reuse:
            distributed.by_main(lambda: take_over(reuse, self.config, self.folder, self.latents))
        wanted = [stage for stage in stages_of(self.config) if stages is None or stage in stages]
        num_clips = len(self.latents.caches[0] if self.latents is not None else self.clips)
        for sentence in repeated_too_often(self.config, num_clips, wanted) if distributed.is_main() else ():
            say("warning", f"{sentence}.")
        trainers = {
            "clip": self._train_clip,
            "codec": self._train_codec,
            "decoder": self._train_decoder,
            "eye": self._train_step_encoder,
            "diffusion": self._train_diffusion,
            "refine": self._train_refine,
        }
        for stage in wanted:  # all of them before the first: the last may start days later
            check_training(self.config, stage, self.device)
        for stage in wanted:
            with user_error_when_out(f"preparing the stage {stage}", "use smaller networks, frames or batches"):
                trainers[stage]()

    # ------------------------------------------------------------------------------------------------ stages

    def _train_clip(self) -> None:
        config, cfg = self.config, self.config.clip
        assert cfg.kind == "builtin"
        captions = [text for clip in range(len(self.clips)) for text in self.clips.captions(clip)]
        tokenizer = saved_tokenizer(config.init, cfg) if config.init else None
        if tokenizer is None:
            tokenizer = builtin_clip.train_tokenizer(captions, cfg.vocabulary, cfg.max_tokens)
        model = self._fresh(
            "clip",
            lambda: builtin_clip.build_clip(cfg, config.data.size_px, len(tokenizer), tokenizer.eos_token_id),
        )
        stage = ClipStage(model, tokenizer, config, self.clips, self.val, self.device)
        self._fit(stage, config.train.clip, clip=identity_text(cfg))
        distributed.by_main(lambda: builtin_clip.save_clip(model.cpu(), tokenizer, captions, self.folder / "clip"))

    def _train_codec(self) -> None:
        clip = self._clip()
        codec = self._fresh("codec", lambda: build_codec(self.config, clip))
        stage = CodecStage(codec, clip, self.config, self.clips, self.val, self.device)
        stage.pictures = lambda: decoded_rows(codec, clip, self.val, NUM_FINAL_SAMPLES)
        made_of = dict(codec=identity_text(self.config.codec), clip=clip.digest)
        self._fit(stage, self.config.train.codec, **made_of, **self._picture_identity())
        if not checkpoint.home(self.out, "decoder").exists():  # never overwrite a decoder that was trained further
            self._save(codec, "codec", clip.digest)
            self._note_round_trip(clip)

    def _train_decoder(self) -> None:
        clip = self._clip()
        codec = self._codec(clip)
        critic = self._fresh("critic", lambda: build_critic(self.config))
        stage = DecoderStage(codec, clip, self.config, self.clips, self.val, self.device, critic)
        stage.pictures = lambda: decoded_rows(codec, clip, self.val, NUM_FINAL_SAMPLES)
        self._fit(stage, self.config.train.decoder, codes=codes_digest(codec, clip), **self._picture_identity())
        has_card = (self.folder / FILE).is_file()  # of a denoiser that was trained before
        self._save(codec, "codec", clip.digest)
        self._note_round_trip(clip)
        if has_card:
            distributed.by_main(self._describe)

    def _note_round_trip(self, clip: FrozenClip) -> None:
        """Writes the codec's quality on validation frames beside it; see `start_thresholds`."""

        def note() -> None:
            runtime.replace_file(
                self.folder / start_thresholds.FILE,
                start_thresholds.measure(self._codec(clip), clip, self.val),
            )

        distributed.by_main(note)

    def _train_step_encoder(self) -> None:
        at = self._encoded()
        step_encoder = self._fresh("eye", lambda: build_step_encoder(self.config, at.space, at.text_width))
        stage = StepEncoderStage(step_encoder, at.space, self.config, *at.caches, self.device)
        temperature = json.dumps(self.config.loss.contrast.temperature)
        text = {"text": "normalised"} if self.config.denoiser.normalised_text else {}
        self._fit(stage, self.config.train.eye, codes=at.codes, temperature=temperature, **text)

    def _picture_identity(self) -> dict[str, str]:
        """The section `picture`, if it is not the default: part of a checkpoint's identity."""
        picture = self.config.picture
        return {"picture": picture.model_dump_json()} if picture != PictureConfig() else {}

    def _train_diffusion(self) -> None:
        at = self._encoded()
        denoiser = self._fresh("diffusion", lambda: build_denoiser(self.config, at.space, at.text_width))
        self._fit_denoiser(DiffusionStage, denoiser, at, self.config.train.diffusion)

    def _train_refine(self) -> None:
        at = self._encoded()
        start = self._kept("diffusion", self.config.train.diffusion)
        denoiser = build_denoiser(self.config, at.space, at.text_width)
        self._fit_denoiser(RefineStage, denoiser, at, self.config.train.refine, start)

    def _fit_denoiser(
        self,
        stage: type[DiffusionStage],
        denoiser: nn.Module,
        at: Latents,
        train: TrainConfig,
        start: dict[str, torch.Tensor] | None = None,
    ) -> None:
        config = self.config
        process = build_process(config, at.space.num_codes)
        sections = (config.denoiser, config.diffusion, config.loss, *filter(None, [config.baseline]))
        step_encoder = trained_step_encoder(self.config, self.out, at, self.device)
        task = stage(denoiser, at.space, process, config, *at.caches, self.device, step_encoder)
        if start is not None:
            task.begin(start)
        if at.clip is not None:
            if "counterfactual" in task.needs and config.data.kind == "sprites":
                task.sentence_makers = makers_of_world(config.data, at.clip, (self.clips, self.val), at.caches)
            assert isinstance(at.space, Codec)
            # It gets the weights as they are.
            pipe = ImageToVideo(Model(config, at.clip, at.space, denoiser, digest=""))
            task.pictures = lambda: sampled_rows(pipe, self.val, NUM_EVAL_SAMPLES)
        writes = stage is RefineStage or not checkpoint.home(self.out, "refine").exists()
        if writes:
            # Written after every checkpoint, so that the run can be sampled from before it has ended.
            task.keep = lambda tensors, step: self._write(
                with_weights(denoiser, tensors),
                "denoiser",
                at.clip_sha256,
                unfinished=f"{task.name}: {step} of {train.num_steps} steps",
            )
        self._fit(
            task,
            train,
            codes=at.codes,
            sections="".join(map(identity_text, sections)),
            **({"eye": weights_digest(step_encoder)} if step_encoder else {}),
        )
        if writes:
            self._save(denoiser, "denoiser", at.clip_sha256)
            distributed.by_main(self._describe)
            networks: dict[str, nn.Module] = {"clip": at.clip} if at.clip else {}
            networks |= {"codec": at.space, "denoiser": denoiser}
            sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
            distributed.by_main(lambda: write_card(self.out, sizes))

    def _describe(self) -> None:
        """Samples a few validation clips, beside the truth, into samples/ and the model folder, and writes the model card."""
        if self.latents is None:
            pipe = ImageToVideo.from_pretrained(self.folder, str(self.device))
            rows, labels = sampled_rows(pipe, self.val, NUM_FINAL_SAMPLES)
            contact_sheet(rows, self.out / "samples" / "validation.png", labels)
            write_moving_sample((rows, labels), self.folder, self.val.fps, pipe.model.digest)
        if self.can_sample:
            renew_card(self.folder, self.out)

    # ----------------------------------------------------------------------------------------------- plumbing

    def _fresh(self, stage: str, build: Callable[[], Built]) -> Built:
        """Builds a network with initial weights from its own random stream, or from the model that `init` names."""
        with torch.random.fork_rng():
            torch.manual_seed(runtime.seed_for(self.config.seed, stage, "weights"))
            network = build()
        if self.config.init and stage in PARTS and checkpoint.newest(self.out, stage) is None:
            assert isinstance(network, nn.Module)
            sentence = begin_with(self.config.init, stage, network)
            if distributed.is_main():
                say("init", f"{sentence}.")
        return network

    def _fit(self, stage: Task, train: TrainConfig, **identity: str) -> None:
        """Trains a stage to its end and loads the averaged weights into its model."""
        # Neither what changes no number nor the number of steps is part of the identity. Older checkpoints include both.
        no_effect = {"compile", "checkpoint_activations"}
        section = identity_text(train, but={*no_effect, "num_steps"})
        before = {train.num_steps, *earlier_num_steps(self.out, stage.name)}
        lengths = [identity_text(train.model_copy(update={"num_steps": length}), but=no_effect) for length in before]
        formerly = {"train": [text_digest(text) for text in lengths]}
        facts = {"train": section, "data": self.data_digest, **identity}
        identity = {name: text_digest(text) for name, text in facts.items()}
        settings = settings_for(train, self.config.num_threads)
        how: dict[str, Any] = {
            "seed": self.config.seed,
            "identity": identity,
            "formerly": formerly,
            "watch": self.watch,
        }
        result = loop.train(stage, settings, self.out, shard=self.shard, **how)
        stage.model.load_state_dict(self._kept(stage.name, train))
        stage.model.eval()
        if not result.is_finished:
            raise SystemExit(0)

    def _kept(self, stage: str, train: TrainConfig) -> dict[str, torch.Tensor]:
        """The averaged weights of a stage's last step, or of its best, as `keep` says."""
        if getattr(train, "keep", "last") == "last":
            return checkpoint.load_weights(self.out, stage, "ema")
        found = checkpoint.best(self.out, stage)
        if distributed.is_main():
            say(stage, f"keeps the weights of step {found.step}, whose validation bound is the lowest.")
        return found.tensors("ema")

    def _clip(self) -> FrozenClip:
        return trained_clip(self.config, self.out, self.device)

    def _codec(self, clip: FrozenClip) -> Codec:
        return trained_codec(self.config, self.out, clip, self.device)

    def _encoded(self) -> Latents:
        """The cache that the config names, or that the run makes from its clips."""
        if self.latents is not None:
            return self.latents
        clip = self._clip()
        codec = self._codec(clip)
        frame_encoder = FrameEncoder(self.config, clip, codec, self.device)
        caches = (
            cached(frame_encoder, self.clips, self.cache / "train"),
            cached(frame_encoder, self.val, self.cache / "val"),
        )
        return Latents(codec, clip.text_width, codes_digest(codec, clip), clip.digest, caches, clip)

    def _save(self, module: nn.Module, name: str, clip_sha256: str) -> None:
        """Writes one network into the model folder, with the config and the facts beside it."""
        distributed.by_main(lambda: self._write(module, name, clip_sha256))

    def _write(self, module: nn.Module, name: str, clip_sha256: str, **further: str) -> None:
        write_part(module, name, self.folder, self.config, {"clip_sha256": clip_sha256, **self.stand_in, **further})
