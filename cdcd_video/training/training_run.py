"""The composition root: a config becomes data, networks and stages, trained one after the other in one run folder."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cdcd_video.config import Config, PictureConfig, TrainConfig, config_file
from cdcd_video.config.config_difference import told_unequal, unequal
from cdcd_video.config.fingerprint import identity_text, of_codes, saved_config, unsaid_in
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.cache_writer import clear_private_cache, write_private_cache
from cdcd_video.data.sprites import BACKGROUNDS, MOTIONS, World
from cdcd_video.data.store import Clips, SpritesClips, StoredClips
from cdcd_video.engine import checkpoint, distributed, loop, runtime
from cdcd_video.engine.train_step import Task
from cdcd_video.errors import UserError, say
from cdcd_video.kernels import compiled
from cdcd_video.model import (
    FORMAT,
    Model,
    build_codec,
    build_critic,
    build_denoiser,
    build_eye,
    build_process,
    clip_folder,
    load_module,
    read_weights,
    save_module,
)
from cdcd_video.networks.clip import STAND_IN, FrozenClip, find, mark_of
from cdcd_video.networks.clip import built_in as builtin_clip
from cdcd_video.networks.codec import reconstruction_quality
from cdcd_video.networks.codec.frame_codec import Codec, CodeSpace
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepEye
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.memory import told_when_out
from cdcd_video.training.code_stages import DiffusionStage, EyeStage, RefineStage
from cdcd_video.training.contact_sheets import decoded_rows, drawn_rows
from cdcd_video.training.latent_encoder import Eyes, codes_digest, codes_of_folder, load_space
from cdcd_video.training.model_card import write_card
from cdcd_video.training.pixel_stages import ClipStage, CodecStage, DecoderStage
from cdcd_video.training.preflight import check_training
from cdcd_video.training.resolved import begun_in, precisions, settled, slow_ones
from cdcd_video.training.run_folder import STAGES, earlier_num_steps, raised_steps, seen_too_often
from cdcd_video.training.stage_settings import settings_for
from cdcd_video.video import contact_sheet

ON_CODES = ("eye", "diffusion", "refine")
"""The stages that see no pixel: a cache of latents is enough for them."""

NUM_SAMPLES = 6
"""Validation clips drawn at the end of a run."""
NUM_SEEN = 2
"""Validation clips drawn at each evaluation of the denoiser."""


def open_clips(config: Config, split: str) -> Clips:
    """The clips of a config; `split` is "train" or "val".

    Raises:
      UserError: they are not there, of another size or made square in another way, or only their latents are.
    """
    data = config.data
    if data.kind == "latents":
        raise UserError(f"{data.path} holds latents and no pixels; for what needs pixels, name a prepared folder")
    if data.kind == "folder":
        clips = StoredClips(Path(data.path), split)
        if clips.size_px != data.size_px:
            raise UserError(
                f"{data.path} holds frames of {clips.size_px} px and data.size_px is {data.size_px}; make them equal"
            )
        if clips.mode != data.mode:
            raise UserError(
                f"{data.path} was made with --mode {clips.mode} and data.mode is {data.mode}; make them equal"
            )
        return clips
    num_clips = data.num_clips if split == "train" else data.num_val_clips
    world = sprites_world(config)
    return SpritesClips(data.scene_seed, num_clips, split, world, data.num_frames, data.size_px, data.fps)


@dataclass(frozen=True)
class Latents:
    """What the stages on codes are trained with.

    Attributes:
      space: what the codes mean; the whole codec, where it is at hand.
      text_width: of the captions' states.
      codes: SHA-256 of what made the codes.
      clip_sha256: of the CLIP's weights.
      caches: of training and of validation clips.
      clip: both towers, where they are at hand.
    """

    space: CodeSpace
    text_width: int
    codes: str
    clip_sha256: str
    caches: tuple[CodeCache, CodeCache]
    clip: FrozenClip | None = None


def open_latents(config: Config, device: torch.device) -> Latents:
    """The cache that a config names.

    Raises:
      UserError: it is not there, of frames of another size, or of another kind of codec than the config's.
    """
    at = latents_in(Path(config.data.path), ("train", "val"), device)
    size_px = at.caches[0].manifest["plan"]["size_px"]
    if size_px != config.data.size_px:
        raise UserError(
            f"{config.data.path} was made of frames of {size_px} px and data.size_px is {config.data.size_px}; "
            "make them equal"
        )
    mode = at.caches[0].manifest["plan"]["recipe"].get("mode", config.data.mode)
    if mode != config.data.mode:
        raise UserError(
            f"{config.data.path} was made with --mode {mode} and data.mode is {config.data.mode}; make them equal"
        )
    there, here = of_codes(at.space.cfg), of_codes(config.codec)
    if there != here:
        told = told_unequal(unequal(there, here, "codec."))
        raise UserError(
            f"the section `codec` of what made {config.data.path} differs from this config's ({told}); make them equal"
        )
    return at


def open_cache(folder: Path, split: str | None = None) -> CodeCache:
    """A cache whose files one of the processes has read against their hashes.

    Raises:
      UserError: see `CodeCache`.
    """
    distributed.by_main(lambda: CodeCache(folder, split))
    return CodeCache(folder, split, trusted=not distributed.is_main())


def latents_in(folder: Path, splits: tuple[str, str], device: torch.device) -> Latents:
    """A cache, for training on one of its splits and validating on the other.

    Raises:
      UserError: it is not there, or damaged.
    """
    caches = tuple(open_cache(folder, split) for split in splits)
    plan = caches[0].manifest["plan"]
    return Latents(load_space(caches[0]).to(device), plan["text_width"], plan["codes"], plan["clip"], caches)


def sprites_world(config: Config) -> World:
    """The dials of the sprites world in a config.

    Raises:
      UserError: a motion or background that does not exist.
    """
    data = config.data
    for name, given, known in (
        ("motions", data.motions, MOTIONS),
        ("backgrounds", data.backgrounds, BACKGROUNDS),
    ):
        unknown = sorted(set(given or ()) - set(known))
        if unknown:
            raise UserError(f"data.{name} holds {unknown[0]!r}; known are: {', '.join(known)}")
    return World(
        max_objects=data.max_objects,
        two_object_share=data.two_object_share,
        motions=data.motions or MOTIONS,
        backgrounds=data.backgrounds or BACKGROUNDS,
        num_frames=data.num_frames,
        fps=data.fps,
    )


class TrainingRun:
    """A run folder and everything trained in it.

    Args:
      config: what is trained; what it leaves open is settled here, see `settled`.
      out: the run folder; made if missing. One in which another config has been trained is refused.
      command: what the user typed, for run.json.
      cache: where the codes of the clips are kept; in the run folder when None. Runs that share data and codec may share it.
      watch: who is shown the log while it is written, of `engine.watch.WATCHERS`.
      shard: how several processes share a model, of `engine.parallel.SHARDS`; no part of what is trained.
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
        self.stand_in = self._stand_in()
        distributed.by_main(lambda: self._claim(command))
        if not distributed.is_main():  # what was open the main process has settled
            self.config = config_file.load(out / "config.yaml", Config)
        distributed.check_alike("the config", int(_digest(config_file.dump(self.config))[:12], 16))
        if self.latents is not None:
            self.data_digest = self.latents.caches[0].digest
            return
        self.clips, self.val = open_clips(config, "train"), open_clips(config, "val")
        if min(len(self.clips), len(self.val)) == 0:
            raise UserError("the data has no training or no validation clips; prepare more clips, or raise --val-share")
        stored = [clips for clips in (self.clips, self.val) if isinstance(clips, StoredClips)]
        distributed.by_main(lambda: [clips.check() for clips in stored])
        for clips in stored:
            clips.check(trusted=not distributed.is_main())
        self.data_digest = self.clips.digest()

    @property
    def can_draw(self) -> bool:
        """Whether the model folder holds CLIP and codec too; with `data: latents` only where `reuse` brings them."""
        return (self.folder / "codec.safetensors").is_file()

    def train(self, stages: Sequence[str] | None = None) -> None:
        """Trains the stages that are asked for (None: all) and not yet finished, each from where it stopped.

        Raises:
          UserError: a stage needs pixels, and there are only latents; or see `engine.loop.train`.
        """
        blind = [stage for stage in stages or () if self.latents is not None and stage not in ON_CODES]
        if blind:
            raise UserError(
                f"the stage {blind[0]} needs pixels, and {self.config.data.path} holds only their latents; train it on a "
                f"prepared folder, and {', '.join(ON_CODES)} on the latents"
            )
        if self.config.reuse:
            distributed.by_main(lambda: self._reuse(Path(self.config.reuse)))
        asked = [stage for stage in stages_of(self.config) if stages is None or stage in stages]
        num_clips = len(self.latents.caches[0] if self.latents is not None else self.clips)
        for sentence in seen_too_often(self.config, num_clips, asked) if distributed.is_main() else ():
            say("warning", f"{sentence}.")
        for stage in asked:  # all of them before the first: the last may be days away
            check_training(self.config, stage, self.device)
        for stage in asked:
            with told_when_out(f"preparing the stage {stage}", "take smaller networks, frames or batches"):
                getattr(self, f"_train_{stage}")()

    def _claim(self, command: Sequence[str]) -> None:
        file = self.out / "config.yaml"
        for place, is_fit in ((file, Path.is_file), (self.folder, Path.is_dir)):  # found out now, and not after days
            if os.path.lexists(place) and not is_fit(place):
                raise UserError(f"{place} is in the way of the run's own; move it away, or choose another --out")
        begun = begun_in(self.out)
        self.config = settled(self.config, self.device, begun, unsaid_in(file) if begun else {})
        raised = raised_steps(self.config, begun, self.out)
        text, stages = config_file.dump(self.config), stages_of(self.config)
        facts = {
            "config_sha256": _digest(text),
            "precision": precisions(self.config, stages),
            **raised,
            **self.stand_in,
        }
        slow = slow_ones(self.config, stages, self.device)
        if slow:
            say("warning", f"{slow}.")
            facts["precision_is_slow"] = slow
        if self.device.type == "cpu":  # on which the last bits depend
            facts["kernels"] = "compiled" if compiled.kernels() else "torch's"
        runtime.write_run_json(self.out, command, **facts)
        runtime.replace_file(file, text)

    def _stand_in(self) -> dict[str, str]:
        """What run.json, model.json and the card say of a CLIP with random weights; nothing of any other."""
        if self.latents is not None:
            told = self.latents.caches[0].manifest["plan"]["recipe"].get(STAND_IN)
        elif self.config.clip.kind == "pretrained":
            told = mark_of(find(self.config.clip.folder))
        else:
            told = None
        return {STAND_IN: told} if told else {}

    # ------------------------------------------------------------------------------------------------ stages

    def _train_clip(self) -> None:
        config = self.config
        captions = [text for clip in range(len(self.clips)) for text in self.clips.captions(clip)]
        tokenizer = builtin_clip.train_tokenizer(captions, config.clip.vocabulary, config.clip.max_tokens)
        model = self._fresh(
            "clip",
            lambda: builtin_clip.build_clip(config.clip, config.data.size_px, len(tokenizer), tokenizer.eos_token_id),
        )
        stage = ClipStage(model, tokenizer, config, self.clips, self.val, self.device)
        self._fit(stage, config.train.clip, clip=identity_text(config.clip))
        distributed.by_main(lambda: builtin_clip.save_clip(model.cpu(), tokenizer, captions, self.folder / "clip"))

    def _train_codec(self) -> None:
        clip = self._clip()
        codec = self._fresh("codec", lambda: build_codec(self.config, clip))
        stage = CodecStage(codec, clip, self.config, self.clips, self.val, self.device)
        stage.pictures = lambda: decoded_rows(codec, clip, self.val, range(min(NUM_SAMPLES, len(self.val))))
        made_of = dict(codec=identity_text(self.config.codec), clip=clip.digest)
        self._fit(stage, self.config.train.codec, **made_of, **self._paid_beside())
        if not checkpoint.home(self.out, "decoder").exists():  # a decoder trained on is not thrown away
            self._save(codec, "codec", clip.digest)
            self._note_round_trip(clip)

    def _train_decoder(self) -> None:
        clip = self._clip()
        codec = self._codec(clip)
        critic = self._fresh("critic", lambda: build_critic(self.config))
        stage = DecoderStage(codec, clip, self.config, self.clips, self.val, self.device, critic)
        stage.pictures = lambda: decoded_rows(codec, clip, self.val, range(min(NUM_SAMPLES, len(self.val))))
        self._fit(stage, self.config.train.decoder, codes=codes_digest(codec, clip), **self._paid_beside())
        self._save(codec, "codec", clip.digest)
        self._note_round_trip(clip)

    def _note_round_trip(self, clip: FrozenClip) -> None:
        """Keeps beside the codec how near it comes to starting frames that it knows; see `reconstruction_quality`."""

        def note() -> None:
            runtime.replace_file(
                self.folder / reconstruction_quality.FILE,
                reconstruction_quality.measure(self._codec(clip), clip, self.val),
            )

        distributed.by_main(note)

    def _train_eye(self) -> None:
        at = self._encoded()
        eye = self._fresh("eye", lambda: build_eye(self.config, at.space, at.text_width))
        stage = EyeStage(eye, at.space, self.config, *at.caches, self.device)
        temperature = json.dumps(self.config.loss.contrast.temperature)
        text = {"text": "normalised"} if self.config.denoiser.normalised_text else {}
        self._fit(stage, self.config.train.eye, codes=at.codes, temperature=temperature, **text)

    def _paid_beside(self) -> dict[str, str]:
        """The section `picture`, where it says anything: part of what a checkpoint is of."""
        picture = self.config.picture
        return {"picture": picture.model_dump_json()} if picture != PictureConfig() else {}

    def _trained_eye(self, at: Latents) -> StepEye | None:
        """As it was trained; None where no term looks with it."""
        if not has_eye(self.config):
            return None
        eye = build_eye(self.config, at.space, at.text_width)
        eye.load_state_dict(checkpoint.load_weights(self.out, "eye", "ema"))
        return eye.to(self.device).eval().requires_grad_(False)

    def _train_diffusion(self) -> None:
        at = self._encoded()
        denoiser = self._fresh("diffusion", lambda: build_denoiser(self.config, at.space, at.text_width))
        self._fit_denoiser(DiffusionStage, denoiser, at, self.config.train.diffusion)

    def _train_refine(self) -> None:
        at = self._encoded()
        start = checkpoint.load_weights(self.out, "diffusion", "ema")
        denoiser = build_denoiser(self.config, at.space, at.text_width)
        self._fit_denoiser(RefineStage, denoiser, at, self.config.train.refine, start)

    def _fit_denoiser(
        self,
        stage: type[DiffusionStage],
        denoiser: Denoiser,
        at: Latents,
        train: TrainConfig,
        start: dict[str, torch.Tensor] | None = None,
    ) -> None:
        config = self.config
        process = build_process(config, at.space.num_codes)
        sections = (config.denoiser, config.diffusion, config.loss, *filter(None, [config.rival]))
        eye = self._trained_eye(at)
        task = stage(denoiser, at.space, process, config, *at.caches, self.device, eye)
        if start is not None:
            task.model.load_state_dict(start)
        if at.clip is not None:
            pipe = ImageToVideo(Model(config, at.clip, at.space, denoiser, digest=""))  # as it stands when it draws
            task.pictures = lambda: drawn_rows(pipe, self.val, range(min(NUM_SEEN, len(self.val))))
        self._fit(
            task,
            train,
            codes=at.codes,
            sections="".join(map(identity_text, sections)),
            **({"eye": weights_digest(eye)} if eye else {}),
        )
        if stage is RefineStage or not checkpoint.home(self.out, "refine").exists():
            self._save(denoiser, "denoiser", at.clip_sha256)
            if self.latents is None:
                distributed.by_main(self._show)
            networks = {"clip": at.clip} if at.clip else {}
            networks |= {"codec": at.space, "denoiser": denoiser}
            sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
            distributed.by_main(lambda: write_card(self.out, sizes))

    def _show(self) -> None:
        """Draws a few validation clips beside the truth into samples/."""
        pipe = ImageToVideo.from_pretrained(self.folder, str(self.device))
        rows, labels = drawn_rows(pipe, self.val, range(min(NUM_SAMPLES, len(self.val))))
        contact_sheet(rows, self.out / "samples" / "validation.png", labels)

    # ----------------------------------------------------------------------------------------------- plumbing

    def _fresh(self, stage: str, build: Callable[[], nn.Module]) -> nn.Module:
        """Builds a network with weights drawn from a stream of its own."""
        with torch.random.fork_rng():
            torch.manual_seed(runtime.seed_for(self.config.seed, stage, "weights"))
            return build()

    def _fit(self, stage: Task, train: TrainConfig, **identity: str) -> None:
        """Trains a stage to its end and leaves the averaged weights in its model."""
        # What changes no number is not asked for, nor how far to go. Checkpoints from before that was so told it.
        idle = {"compile", "checkpoint_activations"}
        told = identity_text(train, but={*idle, "num_steps"})
        before = {train.num_steps, *earlier_num_steps(self.out, stage.name)}
        lengths = [identity_text(train.model_copy(update={"num_steps": length}), but=idle) for length in before]
        formerly = {"train": [_digest(text) for text in lengths]}
        facts = {"train": told, "data": self.data_digest, **identity}
        identity = {name: _digest(text) for name, text in facts.items()}
        settings = settings_for(train, self.config.num_threads)
        how = {"seed": self.config.seed, "identity": identity, "formerly": formerly, "watch": self.watch}
        result = loop.train(stage, settings, self.out, shard=self.shard, **how)
        stage.model.load_state_dict(checkpoint.load_weights(self.out, stage.name, "ema"))
        stage.model.eval()
        if not result.is_finished:
            raise SystemExit(0)

    def _clip(self) -> FrozenClip:
        folder = clip_folder(self.config, self.folder)
        if self.config.clip.kind == "builtin" and not (Path(folder) / "model.safetensors").is_file():
            raise UserError(
                f"{self.out} holds no trained CLIP yet; train the stage `clip` first, or leave out --stages"
            )
        return FrozenClip(folder).to(self.device)

    def _codec(self, clip: FrozenClip) -> Codec:
        """The codec as it was written: the cache and every drawing must see the same 16-bit weights."""
        file = self.folder / "codec.safetensors"
        if not file.is_file():
            raise UserError(
                f"{self.out} holds no trained codec yet; train the stage `codec` first, or leave out --stages"
            )
        return load_module(build_codec(self.config, clip), file).to(self.device).eval()

    def _reuse(self, path: Path) -> None:
        """Copies CLIP and codec of another run, which must have the same sections for them."""
        source = next((folder for folder in (path, path / "model") if (folder / "codec.safetensors").is_file()), None)
        if source is None:
            raise UserError(f"reuse: {path} holds no trained codec; train it first, or name another run folder")
        other = saved_config(source / "config.yaml")
        for section in ("clip", "codec"):
            there, here = getattr(other, section), getattr(self.config, section)
            if section == "codec":
                there, here = of_codes(there), of_codes(here)
            if there != here:
                told = told_unequal(unequal(there, here, f"{section}."))
                raise UserError(
                    f"reuse: the section `{section}` of {source} differs from this config's ({told}); make them equal"
                )
        if self.latents is not None:
            codes = codes_of_folder(source, self.config.codec)
            if codes != self.latents.codes:
                raise UserError(
                    f"reuse: the codec of {source} ({codes[:16]}) is not the one that made {self.config.data.path} "
                    f"({self.latents.codes[:16]}); name the model that did, or encode again"
                )
        if other.picture.sees_start != self.config.picture.sees_start:
            here = self.config.picture.sees_start
            raise UserError(
                f"reuse: picture.sees_start of {source} is {not here}, and this config's is {here}; make them equal"
            )
        read_weights(source / "codec.safetensors")  # before anything is taken over
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.config.clip.kind == "builtin":
            shutil.copytree(source / "clip", self.folder / "clip", dirs_exist_ok=True)
        shutil.copyfile(source / "codec.safetensors", self.folder / "codec.safetensors")
        if (source / reconstruction_quality.FILE).is_file():
            shutil.copyfile(source / reconstruction_quality.FILE, self.folder / reconstruction_quality.FILE)

    def _encoded(self) -> Latents:
        """The cache that the config names, or that the run makes of its clips."""
        if self.latents is not None:
            return self.latents
        clip = self._clip()
        codec = self._codec(clip)
        eyes = Eyes(self.config, clip, codec, self.device)
        caches = self._cache(eyes, "train", self.clips), self._cache(eyes, "val", self.val)
        return Latents(codec, clip.text_width, codes_digest(codec, clip), clip.digest, caches, clip)

    def _cache(self, eyes: Eyes, split: str, clips: Clips) -> CodeCache:
        data, folder = self.config.data, self.cache / split
        longest = data.num_frames if data.kind == "sprites" else data.max_frames_per_clip
        facts = dict(data=clips.digest(), num_items=len(clips), fps=clips.fps, max_frames=longest)
        what = (eyes.plan(**facts, recipe={}), eyes.space())
        # Runs of an ablation share it: one makes it, and the others wait for that.
        with distributed.for_all(lambda: folder_lock(folder, wait=lambda told: say("cache", told))):
            distributed.by_main(lambda: clear_private_cache(folder, what[0]))
            world = distributed.world()
            part = {"shard": world.rank, "num_shards": world.size}
            write_private_cache(folder, clips, eyes.encoder(), *what, split, **part)
            distributed.barrier()  # whoever was last has joined the parts
            return open_cache(folder)

    def _save(self, module: nn.Module, name: str, clip_sha256: str) -> None:
        """Writes one network into the model folder, with the config and the facts beside it."""
        distributed.by_main(lambda: self._write(module, name, clip_sha256))

    def _write(self, module: nn.Module, name: str, clip_sha256: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save_module(module, self.folder / f"{name}.safetensors")
        runtime.replace_file(self.folder / "config.yaml", config_file.dump(self.config))
        facts = {"format": FORMAT, "name": self.config.name, "clip_sha256": clip_sha256, **runtime.git_state()}
        facts |= self.stand_in
        runtime.replace_file(self.folder / "model.json", json.dumps(facts, indent=1) + "\n")


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that a config trains, in order."""
    left_out = {"clip", "codec", "decoder"} if config.reuse or config.data.kind == "latents" else set()
    if config.clip.kind == "pretrained":
        left_out.add("clip")
    if not has_eye(config):
        left_out.add("eye")
    return tuple(stage for stage in STAGES if stage not in left_out)


def has_eye(config: Config) -> bool:
    """Whether a term looks with the eye for steps."""
    return config.loss.contrast.text_eye == "step" and config.loss.contrast.frame_text > 0


def weights_digest(module: nn.Module) -> str:
    """sha256 over names and values of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
