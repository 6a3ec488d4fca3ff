"""What a config asks for, told before it is trained: every tensor, what it costs, what it weighs.

Nothing is worked out on paper. The networks and stages are the ones that `build` trains, put together for black
stand-in clips of the right size; two training steps of each stage are run with `engine.loop.train_step` on fake tensors
(shapes and types without numbers, so that the configured batch costs nothing) while hooks look at what passes, FLOPs
are counted and the bytes that are alive at once are added up. So the printout cannot drift from the code.
"""

import contextlib
import io
import itertools
import json
import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cdcd_video import build
from cdcd_video import clip as builtin_clip
from cdcd_video.codec.codec import Codec
from cdcd_video.config import Config
from cdcd_video.data.cache import CodeCache, write_cache
from cdcd_video.denoiser import Denoiser
from cdcd_video.engine import loop, optim
from cdcd_video.engine.ema import Ema
from cdcd_video.errors import UserError
from cdcd_video.generate import ImageToVideo
from cdcd_video.model import Model, build_codec, build_denoiser, build_eye, build_process
from cdcd_video.pretrained import FrozenClip
from cdcd_video.stages import (
    ClipStage,
    CodecStage,
    DecoderStage,
    DiffusionStage,
    EyeStage,
    RefineStage,
    clip_lengths,
    settings_for,
)

SAMPLED_CLIPS = 256
"""Clips whose captions are read to learn how long captions are."""
REAL_BATCHES = (4, 8)
"""Examples of two real steps, where fake tensors will not do; a straight line through the two leads to any batch."""
CPU = torch.device("cpu")

SCALARS = {
    "loss": "what is differentiated: the weighted sum of the terms",
    "grad_norm": "Euclidean norm of the whole gradient, before clipping",
    "clip_nats": "nats: CLIP's symmetric InfoNCE",
    "retrieval": "share of frames whose own caption wins in the batch",
    "temperature": "learned temperature of the cosines",
    "reconstruction": "L1 + 4 L2 of the drawn frame, weighted towards what changed",
    "still": "mean squared difference of latents where pixels are equal",
    "embed": "1 - cosine of embed(codes) and CLIP's own embedding",
    "eye_nats": "nats: symmetric InfoNCE between true steps and their sentences",
    "eye_wins": "share of steps whose own sentence is the nearest, and the reverse",
    "psnr_db": "dB, drawn frame against the true one",
    "bound": "nats per token: the variational bound L_vb",
    "auxiliary": "nats per token: -log p(x0 | x_t), weighted towards what changes",
    "auxiliary_changed": "nats per token, over codes that change",
    "auxiliary_still": "nats per token, over codes that stay",
    "right_changed": "share of the changed codes whose likeliest code is right",
    "velocity_squared": "squared error of the velocity, of a value normalised per channel",
    "x0_squared_changed": "squared error of x0, over values of codes that change",
    "x0_squared_still": "squared error of x0, over values of codes that stay",
    "nll": "nats per token: -log p(code | codes before it)",
    "nll_changed": "nats per token, over codes that change",
    "nll_still": "nats per token, over codes that stay",
    "frame_frame": "nats per frame: InfoNCE against the earlier frame",
    "frame_text": "nats per frame: InfoNCE against the caption",
    "frame_frame_wins": "share of frames whose earlier frame is the nearest",
    "frame_text_wins": "share of frames whose caption is the nearest",
    "frame_frame_temperature": "of the cosines, learned",
    "frame_text_temperature": "of the cosines, learned",
}
"""What the scalars of a training step mean; nats are natural logarithms."""


def explain(config: Config) -> str:
    """Everything worth knowing about a config before it is trained, as text.

    Args:
      config: the resolved config.

    Returns:
      Sections: the config with what differs from the defaults, tensors, networks, stages, drawing, sizes on disk.

    Raises:
      UserError: the config names data or a CLIP folder that cannot be used; missing prepared clips are only noted.
    """
    data = _look_at_data(config)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        line = _Line(config, data, Path(folder))
        stages = [line.measure(name) for name in line.stages]
        sections = [
            f"{config.name}: a dry run. Nothing is trained, nothing is written.",
            _told_config(config),
            _told_data(config, data, line),
            *_told_tensors(stages),
            _told_drawing(line),
            _told_networks(line, stages),
            _told_stages(config, data, line, stages),
            _told_sizes(config, data, line, stages),
        ]
    return "\n\n".join(sections) + "\n"


# -------------------------------------------------------------------------------------------------------- the data


@dataclass(frozen=True)
class _Data:
    """What has to be known of the clips: numbers, and some captions."""

    num_clips: int
    num_frames: tuple[int, int]
    """Frames that are encoded, of the training and of the validation clips; zeros when the folder is missing."""
    num_captions: tuple[int, int]
    """Captions of the two splits, counted with repetitions."""
    longest: int
    """Frames of the longest clip, as far as they are encoded."""
    fps: float
    captions: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _look_at_data(config: Config) -> _Data:
    """Opens the clips; where a prepared folder is missing, stands in for it and says so."""
    data = config.data
    most = data.num_frames if data.kind == "sprites" else data.max_frames_per_clip
    try:
        splits = [build.open_clips(config, split) for split in ("train", "val")]
    except UserError as error:
        if data.kind == "sprites":
            raise
        longest_caption = " ".join(["word"] * 1000)
        return _Data(0, (0, 0), (0, 0), most, 8.0, (longest_caption,), (f"the clips are not there: {error}",))
    train = splits[0]
    lengths = [np.minimum(clip_lengths(clips), most) for clips in splits]
    sample = np.linspace(0, len(train) - 1, min(SAMPLED_CLIPS, len(train))).astype(int)
    captions = tuple(caption for clip in sample for caption in train.captions(int(clip)))
    if data.kind == "sprites":
        num_captions = tuple(len(clips) for clips in splits)
    else:
        num_captions = tuple(sum(len(clips.captions(clip)) for clip in range(len(clips))) for clips in splits)
    notes = []
    if train.size_px != data.size_px:
        notes.append(
            f"the clips have {train.size_px} pixels a side and data.size_px is {data.size_px}: make them equal"
        )
    num_frames = tuple(int(length.sum()) for length in lengths)
    return _Data(len(train), num_frames, num_captions, int(lengths[0].max()), train.fps, captions, tuple(notes))


class _BlackClips:
    """Stand-in clips: black frames of the right size, and one caption."""

    def __init__(self, size_px: int, fps: float, length: int, caption: str):
        self.size_px, self.fps, self._length, self._caption = size_px, fps, max(2, length), caption

    def __len__(self) -> int:
        return 8

    def name(self, clip: int) -> str:
        return f"black-{clip}"

    def caption(self, clip: int) -> str:
        return self._caption

    def captions(self, clip: int) -> tuple[str, ...]:
        return (self._caption,)

    def num_frames(self, clip: int) -> int:
        return self._length

    def frames(self, clip: int, indices: Sequence[int]) -> np.ndarray:
        return np.zeros((len(indices), self.size_px, self.size_px, 3), np.uint8)

    def digest(self) -> str:
        return "black"


# --------------------------------------------------------------------------------------------------- what is measured


def _empty(module: nn.Module, mode: FakeTensorMode) -> None:
    """Puts fake tensors in the place of weights and buffers: the same shapes and types, no numbers."""
    for part in module.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(mode.from_tensor(value.detach()), requires_grad=value.requires_grad))
        for name, value in list(part.named_buffers(recurse=False)):
            setattr(part, name, mode.from_tensor(value))


class _Meter(TorchDispatchMode):
    """Adds up the bytes of tensors that are made under it and still alive; `peak` is the most there were at once.

    Views and results written in place hold no memory of their own.

    Args:
      has_checks: whether all that is asked of a tensor's numbers is whether something is wrong with them, such as
        `bool((s >= t).any())`. A fake tensor has no numbers; then the answer is 0, which is False.
    """

    def __init__(self, has_checks: bool = False):
        super().__init__()
        self.has_checks = has_checks
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_question = func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor)
        if is_question and self.has_checks:
            return 0.0 if args[0].is_floating_point() else False
        out = func(*args, **(kwargs or {}))
        if not any(result.alias_info for result in func._schema.returns):
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor):
                    self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._seen:
            return
        self._seen.add(id(storage))
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, id(storage), storage.nbytes())

    def _forget(self, number: int, num_bytes: int) -> None:
        self._seen.discard(number)
        self.alive -= num_bytes


@dataclass(frozen=True)
class _Given:
    """A stage whose batch has already been drawn."""

    name: str
    model: nn.Module
    given: Any
    objective: Callable[..., Any]

    def batch(self, step: int) -> Any:
        return self.given


@dataclass(frozen=True)
class _Parts:
    """A stage put together: what is trained, beside what, and what to look at meanwhile."""

    task: Any
    beside: list[nn.Module]
    watched: dict[str, nn.Module]
    tell: Callable[..., str]


@dataclass(frozen=True)
class _Stage:
    """A stage as it was measured; bytes unless said otherwise."""

    name: str
    is_fake: bool
    """Whether fake tensors did; else two real steps."""
    tensors: str
    flops: float
    """Of one step."""
    num_trained: int
    """Parameters."""
    trained: frozenset[str]
    """Their names, each after the class of its network."""
    weights: int
    """Of every network in memory, frozen ones too."""
    activations: float
    """The most that is alive at once in a step beside weights, gradients, moments and averages."""
    checkpoint: int

    @property
    def memory(self) -> float:
        """Weights, gradients, two moments, the average, and activations."""
        return self.weights + 16 * self.num_trained + self.activations


class _Line:
    """Networks and stages of a config, for stand-in clips."""

    def __init__(self, config: Config, data: _Data, folder: Path):
        self.config = config
        self.clip = FrozenClip(self._clip_folder(data.captions, folder))
        self.clip_bytes = sum(file.stat().st_size for file in (folder / "clip").glob("*"))
        lengths = self.clip.tokenize(data.captions)[1].sum(1)
        longest, self.num_words = data.captions[int(lengths.argmax())], int(lengths.max())
        self.clips = _BlackClips(config.data.size_px, data.fps, data.longest, longest)
        self.codec, self.denoiser = self._codec_and_denoiser()
        self.cache = self._cache(folder / "cache")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that will be trained, in order."""
        return build.stages_of(self.config)

    def measure(self, name: str) -> _Stage:
        """Takes training steps of a stage at its batch on fake tensors; where they will not do, on real, smaller ones."""
        batch_size = getattr(self.config.train, name).batch_size
        try:
            return self._steps(name, batch_size, FakeTensorMode(allow_non_fake_inputs=True))
        except (DataDependentOutputException, DynamicOutputShapeException):  # its course depends on the numbers
            few, more = (self._steps(name, size, None) for size in REAL_BATCHES)
        ahead = (batch_size - REAL_BATCHES[1]) / (REAL_BATCHES[1] - REAL_BATCHES[0])
        return replace(
            more,
            flops=more.flops + ahead * (more.flops - few.flops),
            activations=max(0, more.activations + ahead * (more.activations - few.activations)),
        )

    def _steps(self, name: str, batch_size: int, mode: FakeTensorMode | None) -> _Stage:
        """Takes two training steps: one to look at the tensors (and let the optimiser begin), one to count."""
        train = getattr(self.config.train, name).model_copy(update={"batch_size": batch_size})
        parts = self._put_together(name, batch_size)
        model, settings, batch = parts.task.model, settings_for(train, 1), parts.task.batch(0)
        given = _Given(name, model, batch, parts.task.objective)
        networks = [model, *parts.beside]
        if mode is not None:
            for network in networks:
                if network is not self.clip:  # it is frozen: its own operations turn its weights into fake ones
                    _empty(network, mode)
        with mode or contextlib.nullcontext():
            optimizer = optim.make_optimizer(model, settings)
            ema = Ema(model, settings.ema_decay)
            step = partial(loop.train_step, given, optimizer, ema, settings, seed=self.config.seed)
            network = getattr(parts.task, "denoiser", model)  # `model` may hold learned temperatures beside it
            has_checks = isinstance(network, Denoiser)  # a quantiser's course may really depend on its data
            with _watching(parts.watched) as seen, _Meter(has_checks):
                scalars = step(step=0)
            tensors = parts.tell(name, batch_size, batch, seen, scalars)
            seen.clear()
            optimizer.zero_grad(set_to_none=True)
            with _Meter(has_checks) as memory, FlopCounterMode(display=False) as flops:
                step(step=1)
        trained = optim.trained_parameters(model)
        num_trained = sum(parameter.numel() for parameter in trained.values())
        return _Stage(
            name=name,
            is_fake=mode is not None,
            tensors=tensors,
            flops=flops.get_total_flops(),
            num_trained=num_trained,
            trained=frozenset(f"{type(network).__name__}.{key}" for key in optim.trained_parameters(network)),
            weights=sum(_weights_of(network) for network in networks),
            activations=max(0, memory.peak - 4 * num_trained),
            checkpoint=2 * sum(tensor.nbytes for tensor in model.state_dict().values()) + 8 * num_trained,
        )

    def _put_together(self, name: str, batch_size: int) -> _Parts:
        """A stage with fresh networks, as `build` makes it."""
        config, clips = _with_batch_size(self.config, name, batch_size), self.clips
        if name == "clip":
            model = self._fresh_clip()
            task = ClipStage(model, self.clip.tokenizer, config, clips, clips, CPU)
            return _Parts(task, [], dict(vision=model.vision_model, text=model.text_model), self._clip_table)
        codec, denoiser = self._codec_and_denoiser()
        if name in ("codec", "decoder"):
            kind = CodecStage if name == "codec" else DecoderStage
            watched = dict(vision=self.clip.model.vision_model, embed=codec.embed_head, projection=codec.projection)
            watched |= dict(quantizer=codec.quantizer, decoder=codec.decoder)
            task = kind(codec, self.clip, config, clips, clips, CPU)
            return _Parts(task, [self.clip], watched, self._codec_table)
        if name == "eye":
            eye = build_eye(config, codec, self.clip.text_width)
            watched = dict(step=eye.step_out, text=eye.text_out)
            task = EyeStage(eye, codec, config, self.cache, self.cache, CPU)
            return _Parts(task, [self.clip, codec], watched, self._eye_table)
        kind = DiffusionStage if name == "diffusion" else RefineStage
        process = build_process(config, codec.num_codes)
        task = kind(denoiser, codec, process, config, self.cache, self.cache, CPU)
        watched = dict(denoiser=denoiser, embed=codec.embed_head)
        return _Parts(task, [self.clip, codec], watched, self._diffusion_table)

    # ---------------------------------------------------------------------------------------------- putting together

    def _clip_folder(self, captions: Sequence[str], folder: Path) -> Path:
        cfg = self.config.clip
        if cfg.kind == "pretrained":
            return Path(cfg.folder)
        self.tokenizer = builtin_clip.train_tokenizer(captions, cfg.vocabulary, cfg.max_tokens)
        return builtin_clip.save_clip(self._fresh_clip(), self.tokenizer, captions, folder / "clip")

    def _fresh_clip(self) -> nn.Module:
        cfg = self.config.clip
        return builtin_clip.build_clip(cfg, self.config.data.size_px, cfg.vocabulary, self.tokenizer.eos_token_id)

    def _codec_and_denoiser(self) -> tuple[Codec, Denoiser]:
        codec = build_codec(self.config, self.clip)
        return codec, build_denoiser(self.config, codec, self.clip.text_width)

    def _cache(self, folder: Path) -> CodeCache:
        def encode(frames: Tensor) -> Tensor:
            return torch.zeros(len(frames), self.codec.num_tokens, dtype=torch.int64)

        with contextlib.redirect_stderr(io.StringIO()):  # no progress bars for eight black clips
            write_cache(folder, self.clips, encode, self.clip.read, {}, self.clips.num_frames(0))
        return CodeCache(folder)

    # ------------------------------------------------------------------------------------------------------- tensors

    def _clip_table(self, name: str, batch_size: int, batch: tuple, seen: dict, scalars: dict) -> str:
        table = _Table(B=batch_size, L=self.num_words, J=self.clip.joint_width)
        table.add("frame", batch[0], "B 3 S S", "normalised: (frame - mean) / deviation")
        table.add("token ids", batch[1], "B L", "captions as byte-level BPE, padded")
        table.add("is word", batch[2], "B L", "False on padding")
        table.add("caption", batch[3], "B", "which distinct caption: equal ones are not negatives")
        table.add("patch states", seen["vision"].out.last_hidden_state, "B T Dv", "last layer; T is patches and class")
        table.add("pooled image", seen["vision"].out.pooler_output, "B Dv", "projected to the joint width J")
        table.add("word states", seen["text"].out.last_hidden_state, "B L Dw", "last layer")
        table.add("pooled text", seen["text"].out.pooler_output, "B Dw", "projected to the joint width J")
        return table.told(scalars)

    def _codec_table(self, name: str, batch_size: int, batch: Any, seen: dict, scalars: dict) -> str:
        clip, codec, size = self.clip, self.codec, self.config.data.size_px
        # The codec reads target and source of each pair; the decoder alone needs the target only.
        both = "2B" if name == "codec" else "B"
        table = _Table(B=batch_size, H=size, W=size, S=clip.image_size, P=clip.num_patches, G=codec.groups)
        table.sizes |= dict(N=codec.num_tokens, K=codec.num_codes, J=clip.joint_width, d=codec.table.shape[1])
        for part in ("first", "source", "target"):
            table.add(part, getattr(batch, part), "B 3 H W", f"{part} frame of the pair, in [0, 1]")
        pixels = seen["vision"].named["pixel_values"]
        table.add("pixels", pixels, f"{both} 3 S S", "as CLIP wants them: (frame - mean) / deviation")
        for layer, states in zip(codec.cfg.layers, seen["projection"].given[0], strict=True):
            depth = "patch embedding" if layer == 0 else f"after CLIP block {layer}"
            table.add(f"patch states {layer}", states, f"{both} P Dv", depth)
        table.add("latents", seen["projection"].out, f"{both} P V", "projected, before rounding")
        quantized = seen["quantizer"].out
        table.add("code values", quantized.values, f"{both} P G d", "points of the quantiser, about [-1, 1]")
        table.add("codes", quantized.codes, f"{both} P G", "in 0..K-1; flattened to N = P G")
        start, patches, shallow = seen["decoder"].given[1]
        table.add("start", start, "B 3 H W", "starting frame beside the decoder")
        table.add("start patches", patches, "B P Dd", "its shallow features, patch by patch")
        table.add("start pixels", shallow, "B C H W", "its shallow features, pixel by pixel")
        table.add("drawn", seen["decoder"].out, "B 3 H W", "decoded frame, about [0, 1]")
        if "embed" in seen:
            table.add("embed", seen["embed"].out, f"{both} J", "embed(codes), unit norm")
        return table.told(scalars)

    def _eye_table(self, name: str, batch_size: int, batch: Any, seen: dict, scalars: dict) -> str:
        table = _Table(B=batch_size, N=self.codec.num_tokens, L=self.num_words, Dt=self.clip.text_width)
        table.add("source", batch.source, "B N", "codes of the earlier frame")
        table.add("target", batch.target, "B N", "codes of the next frame")
        table.add("gap", batch.gap_s, "B", "seconds from source to target")
        table.add("token states", batch.text.tokens, "B L Dt", "word embedding and last layer of CLIP's text tower")
        table.add("step", seen["step"].out, "B E", "the step, before it is given length 1")
        table.add("sentence", seen["text"].out, "B E", "its sentence, likewise")
        return table.told(scalars)

    def _diffusion_table(self, name: str, batch_size: int, batch: Any, seen: dict, scalars: dict) -> str:
        codec = self.codec
        table = _Table(B=batch_size, N=codec.num_tokens, K=codec.num_codes, L=self.num_words)
        table.sizes |= dict(Dt=self.clip.text_width, J=self.clip.joint_width, P=codec.num_patches)
        table.sizes |= dict(V=codec.groups * codec.table.shape[1])
        for part, meaning in dict(
            source="codes of the earlier frame",
            target="codes of the next frame: x0",
            first="codes of the first frame",
            far="codes of a far frame of the clip: intra negative",
            before="codes of a frame before the source (for `refine`)",
        ).items():
            table.add(part, getattr(batch, part), "B N", meaning)
        table.add("has first", batch.has_first, "B", "whether the first frame is shown")
        table.add("gap", batch.gap_s, "B", "seconds from source to target")
        table.add("age", batch.age_s, "B", "seconds from first frame to source")
        table.add("gap before", batch.before_gap_s, "B", "seconds from that frame to the source")
        table.add("clip", batch.clip, "B", "which clip: false negatives are found by it")
        table.add("caption", batch.caption, "B", "which caption: likewise")
        table.add("token states", batch.text.tokens, "B L Dt", "word embedding and last layer of CLIP's text tower")
        table.add("is word", batch.text.is_word, "B L", "False on padding")
        table.add("caption embedding", batch.text.embedding, "B J", "in the joint space, unit norm")
        shown, *time, condition = seen["denoiser"].given
        kind = self.config.rival.kind if self.config.rival else None
        letters = "B P V" if kind == "gaussian" else "B N"
        table.add("jittered source", condition.source, letters, "what the denoiser is shown of the source")
        if kind != "autoregressive":
            table.add("x_t", shown, letters, SHOWN[kind])
            table.add("t", *time, "B", "diffusion time, 0 is data and 1 the source law")
        table.add(*_prediction(kind, seen["denoiser"].out))
        if "embed" in seen:
            table.add(
                "soft code values", seen["embed"].given[0], "M P V", "expected code values; M is the share judged"
            )
            table.add("embed", seen["embed"].out, "M J", "embed(softmax(logits)), unit norm")
        return table.told(scalars)


SHOWN = {None: "corrupted codes, in 0..K; K is [MASK]", "gaussian": "noisy code values, normalised per channel"}
"""What x_t is, by the rival's kind; a causal transformer has none."""


def _prediction(kind: str | None, out: Tensor) -> tuple[str, Tensor, str, str]:
    """What the denoiser or the rival in its place says: name, tensor, letters, meaning."""
    if kind == "gaussian":
        return "x0", out, "B P V", "the expected code values, normalised per channel"
    return "logits", out, "B N K", "of p(x0 | x_t, ...)" if kind is None else "of p(code | codes before it, ...)"


def _told_tensors(stages: Sequence[_Stage]) -> Iterator[str]:
    """One table of tensors for each stage; stages in a row that have the same share it."""
    for (tensors, is_fake), group in itertools.groupby(stages, lambda stage: (stage.tensors, stage.is_fake)):
        heading = _heading(f"Tensors of a step of {' and of '.join(stage.name for stage in group)}")
        real = [] if is_fake else [f"  This was a real step, of {REAL_BATCHES[1]} examples."]
        yield "\n".join([*heading, tensors, *real])


def _told_drawing(line: _Line) -> str:
    """The tensors of a drawing and its FLOPs, from one that really takes place (with untrained networks)."""
    model = Model(line.config, line.clip, line.codec.eval(), line.denoiser.eval(), digest="")
    pipe = ImageToVideo(model)
    drawing = replace(pipe.defaults(), num_frames=2)
    size, caption = line.config.data.size_px, line.clips.caption(0)
    starts = np.zeros((1, size, size, 3), np.uint8)
    first, _ = _flops(lambda: pipe.roll_out(starts, [caption], replace(drawing, num_frames=1), [0]))
    with _watching(dict(denoiser=line.denoiser)) as seen:
        both, codes = _flops(lambda: pipe.roll_out(starts, [caption], drawing, [0]))
    decoding, frames = _flops(lambda: pipe.decode(codes, starts))
    ids, is_word = line.clip.tokenize([caption])
    text = line.clip.read([caption])

    table = _Table(B=1, F=2, H=size, W=size, N=line.codec.num_tokens, K=line.codec.num_codes, L=line.num_words)
    table.add("start", starts, "B H W 3", "the user's image, RGB in 0..255")
    table.add("token ids", ids, "B L", "the caption")
    table.add("is word", is_word, "B L", "False on padding")
    table.add("token states", text.tokens, "B L Dt", "what the denoiser reads")
    table.add("caption embedding", text.embedding, "B J", "unit norm")
    table.sizes |= dict(P=line.codec.num_patches, V=line.codec.groups * line.codec.table.shape[1])
    rows = "2B" if drawing.guidance != 1 else "B"
    kind = line.config.rival.kind if line.config.rival else None
    letters = "P V" if kind == "gaussian" else "N"
    if kind != "autoregressive":  # which never makes a whole pass when it draws
        walked = "code values" if kind else "codes"
        x_t = seen["denoiser"].given[0]
        table.add("x_t", x_t, f"{rows} {letters}", f"walked {walked}; twice, with and without caption, if guided")
        name, made, shape, _ = _prediction(kind, seen["denoiser"].out)
        table.add(name, made, shape.replace("B", rows), "at each reverse step")
    table.add(
        "code values" if kind == "gaussian" else "codes",
        codes,
        f"B F {letters}",
        "frame after frame; never decoded in between",
    )
    table.add("frames", frames, "B F H W 3", "the video, RGB in 0..255; frame 0 is the image itself")
    per_frame, decoded = both - first, decoding / 2
    steps = "one pass per patch" if kind == "autoregressive" else f"{drawing.num_steps} reverse steps"
    costs = [
        f"  FLOPs: {_scaled(first, 'FLOP')} once (reading image and caption), then for each frame"
        f" {_scaled(per_frame + decoded, 'FLOP')}:",
        f"  {_scaled(per_frame, 'FLOP')} for {steps} (guidance {drawing.guidance:g}),"
        f" {_scaled(decoded, 'FLOP')} for the decoder. Counted on a real drawing.",
    ]
    return "\n".join([*_heading("Tensors of a drawing of two frames"), table.told({}), *costs])


# ----------------------------------------------------------------------------------------------------- what is told


def _told_config(config: Config) -> str:
    return "\n".join(
        [*_heading("Config (values that differ from the default are marked)"), *_config_lines(config, None)]
    )


def _config_lines(section: BaseModel, usual: BaseModel | None, indent: str = "") -> Iterator[str]:
    """A section as YAML that `configfile.load` reads back, each value beside its default where they differ."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        is_same_kind = isinstance(usual, type(section))
        default = getattr(usual, name, None) if is_same_kind else field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _config_lines(value, default if isinstance(default, BaseModel) else None, indent + "  ")
            continue
        if name == "kind" and usual is not None:  # the kind that is usual here, not the one kind of this class
            default = getattr(usual, name, value)
        text = f"{indent}{name}: {_as_yaml(value)}"
        is_marked = value != default and not (field.is_required() and not is_same_kind)
        yield f"{text:<46}  # default: {_as_yaml(default)}" if is_marked else text


def _as_yaml(value: Any) -> str:
    return json.dumps(value)


def _told_data(config: Config, data: _Data, line: _Line) -> str:
    lines = [
        *_heading("Line"),
        "  learn   clip + caption -> pixels -> CLIP patch states -> latents -> codes -> corrupted codes -> logits -> loss",
        "  draw    frame + caption -> codes -> reverse walk, frame after frame -> codes + starting frame -> frames",
        "",
        f"  Letters: {LETTERS}",
        f"  L is {line.num_words}: the longest of {len(data.captions)} captions looked at; the tower reads at most"
        f" {line.clip.max_tokens} tokens.",
    ]
    if config.clip.kind == "builtin":
        lines.append(
            f"  The tokenizer is learned from the captions: {config.clip.vocabulary} token ids is the most it may have,"
            " and is counted with."
        )
    if config.reuse:
        lines.append(f"  CLIP and codec come from {config.reuse} as they are; here are fresh ones of the same config.")
    lines += [f"  Note: {note}" for note in data.notes]
    return "\n".join(lines)


LETTERS = (
    "B batch, F frames, N tokens per frame, L caption tokens, K codes, C H W pixels, S side for CLIP,\n"
    "  P patches, G codes per patch, d digits per code, V = G d, J joint width, D... widths, M rows judged."
)


def _told_networks(line: _Line, stages: Sequence[_Stage]) -> str:
    networks = {
        "CLIP image tower": (line.clip.model, ("vision_model.", "visual_projection.")),
        "CLIP text tower": (line.clip.model, ("text_model.", "text_projection.")),
        "codec projection": (line.codec, ("projection.",)),
        "codec quantiser": (line.codec, ("quantizer.",)),
        "codec decoder": (line.codec, ("decoder.",)),
        "codec embed head": (line.codec, ("embed_head.",)),
        "denoiser": (line.denoiser, ("",)),
    }
    lines, total = _heading("Networks"), 0
    for name, (model, prefixes) in networks.items():
        count = sum(value.numel() for key, value in model.named_parameters() if key.startswith(prefixes))
        total += count
        begins = tuple(f"{type(model).__name__}.{prefix}" for prefix in prefixes)
        where = [stage.name for stage in stages if any(trained.startswith(begins) for trained in stage.trained)]
        role = f"trained in {', '.join(where)}" if where else "frozen" if count else "nothing to train by gradients"
        lines.append(f"  {name:<22}{count:>13,} parameters   {role}")
    lines.append(f"  {'together':<22}{total:>13,} parameters")
    return "\n".join(lines)


def _told_stages(config: Config, data: _Data, line: _Line, stages: Sequence[_Stage]) -> str:
    lines = _heading("Stages, in order")
    head = (
        f"  {'stage':<11}{'steps':>7}{'batch':>7}{'samples':>11}{'trained':>12}{'FLOPs/step':>15}{'FLOPs in all':>15}"
    )
    lines.append(head)
    for stage in stages:
        train = getattr(config.train, stage.name)
        samples = train.num_steps * train.batch_size
        lines.append(
            f"  {stage.name:<11}{train.num_steps:>7}{train.batch_size:>7}{samples:>11,}{stage.num_trained:>12,}"
            f"{_scaled(stage.flops, 'FLOP'):>15}{_scaled(stage.flops * train.num_steps, 'FLOP'):>15}"
        )
    if data.num_clips:
        sections = [getattr(config.train, stage.name) for stage in stages]
        passes = [f"{train.num_steps * train.batch_size / data.num_clips:.1f}" for train in sections]
        lines.append(f"  Samples per training clip ({data.num_clips:,} clips): {', '.join(passes)}.")
    lines += [
        "  FLOPs: forward and backward of one whole step, counted by torch's FlopCounterMode: matrix products,",
        "  convolutions and attention, two per multiply-add; elementwise work is left out.",
    ]
    fake, real = ([stage.name for stage in stages if stage.is_fake is wanted] for wanted in (True, False))
    if fake:
        lines.append(f"  Measured on fake tensors (shapes without numbers) at the whole batch: {', '.join(fake)}.")
    if real:
        few, more = REAL_BATCHES
        lines.append(
            f"  Measured on real steps of {few} and {more} examples, and continued to the batch: {', '.join(real)}."
        )
    lines += [
        "",
        *_heading("Memory of a stage"),
        f"  {'stage':<11}{'weights':>12}{'gradients':>12}{'AdamW':>12}{'average':>12}{'activations':>14}{'together':>12}",
    ]
    for stage in stages:
        parts = [stage.weights, *(4 * stage.num_trained * times for times in (1, 2, 1)), stage.activations]
        columns = [_scaled(part, "B") for part in (*parts, stage.memory)]
        lines.append(
            f"  {stage.name:<11}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (12,) * 4 + (14, 12), strict=True))
        )
    lines += [
        "  Weights: all networks in memory, frozen ones too, 4 bytes a number. Activations: the most bytes of tensors",
        "  alive at once in a step (kept for the backward pass, temporaries, 16-bit copies), gradients taken off.",
        "  Not counted: Python and its libraries (about 0.6 GB), the batch, the work space of kernels, what the allocator",
        "  wastes. On a CPU, resident memory rose by 1.3 to 1.4 times the activations and gradients in a real step.",
    ]
    return "\n".join(lines)


def _told_sizes(config: Config, data: _Data, line: _Line, stages: Sequence[_Stage]) -> str:
    lines = _heading("On disk")

    def row(name: str, num_bytes: float, remark: str) -> None:
        lines.append(f"  {name:<26}{_scaled(num_bytes, 'B'):>12}   {remark}")

    keep = settings_for(config.train.codec, 0).keep_checkpoints
    for stage in stages:
        row(f"checkpoint of {stage.name}", stage.checkpoint, f"weights, average, AdamW; the newest {keep} are kept")
    codes = sum(data.num_frames) * line.codec.num_tokens * 2
    each = line.num_words * (2 * line.clip.text_width + 1) + 4 * line.clip.joint_width
    if data.num_clips:
        row("cache: codes", codes, f"{sum(data.num_frames):,} frames of {line.codec.num_tokens} codes, 2 bytes each")
        row("cache: captions", sum(data.num_captions) * each, "at most: equal captions are kept once")
    else:
        lines.append(f"  {'cache':<26}{'unknown':>12}   the clips are not there")
    shipped = {name: 2 * _numbers_of(module) for name, module in (("codec", line.codec), ("denoiser", line.denoiser))}
    if config.clip.kind == "builtin":
        shipped = {"CLIP": line.clip_bytes} | shipped
    row("the model", sum(shipped.values()), ", ".join(f"{name} {_scaled(size, 'B')}" for name, size in shipped.items()))
    lines.append(
        "  The model is written in 16 bits"
        + ("." if config.clip.kind == "builtin" else f"; its CLIP stays in {config.clip.folder}.")
    )
    return "\n".join(lines)


class _Table:
    """Rows of tensors. A letter has one size throughout a table; a tensor that breaks this is a mistake of ours."""

    def __init__(self, **sizes: int):
        self.sizes = sizes
        self.rows: list[str] = []

    def add(self, name: str, tensor: Tensor | np.ndarray, letters: str, meaning: str) -> None:
        """Adds a tensor; a letter that has no size yet takes the one found."""
        shape = tuple(tensor.shape)
        words = letters.split()
        if len(words) != len(shape) or any(self._size(w, n) != n for w, n in zip(words, shape, strict=False)):
            raise AssertionError(f"{name} has the shape {shape} and was expected as ({letters}) with {self.sizes}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        numbers = " x ".join(map(str, shape))
        self.rows.append(f"  {name:<19}({letters}){'':<{max(1, 12 - len(letters))}}{numbers:<21} {dtype:<9} {meaning}")

    def told(self, scalars: dict[str, Tensor]) -> str:
        """The table as text, with the scalars of the step below."""
        lines = list(self.rows)
        for name, value in scalars.items():
            dtype = str(value.dtype).removeprefix("torch.")
            lines.append(f"  {name:<19}(){'':<12}{'':<21} {dtype:<9} {SCALARS.get(name, '')}".rstrip())
        lines.append("  " + ", ".join(f"{letter} = {size}" for letter, size in self.sizes.items()))
        return "\n".join(lines)

    def _size(self, word: str, found: int) -> int:
        times, letter = re.fullmatch(r"(\d*)([A-Za-z]*)", word).groups()
        if not letter:
            return int(times)
        return int(times or 1) * self.sizes.setdefault(letter, found // int(times or 1))


@dataclass(frozen=True)
class _Call:
    """One call of a network."""

    given: tuple
    named: dict[str, Any]
    out: Any


@contextlib.contextmanager
def _watching(modules: dict[str, nn.Module]) -> Iterator[dict[str, _Call]]:
    """Keeps a call of each network that is called inside the `with`: the last of the denoiser, of others the first."""
    seen: dict[str, _Call] = {}

    def keep(name: str, module: nn.Module, given: tuple, named: dict[str, Any], out: Any) -> None:
        if name == "denoiser" or name not in seen:  # a step of `refine` draws frames before it learns
            seen[name] = _Call(given, named, out)

    handles = [module.register_forward_hook(partial(keep, name), with_kwargs=True) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _flops(run: Callable[[], Any]) -> tuple[int, Any]:
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops(), result


def _with_batch_size(config: Config, stage: str, batch_size: int) -> Config:
    """The config with another batch in one stage."""
    section = getattr(config.train, stage).model_copy(update={"batch_size": batch_size})
    return config.model_copy(update={"train": config.train.model_copy(update={stage: section})})


def _weights_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _numbers_of(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _scaled(value: float, unit: str) -> str:
    """A number with a prefix of a thousand: 12,300,000 B -> 12.3 MB."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            number = value / size
            return f"{number:.0f} {prefix}{unit}" if number >= 100 else f"{number:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def _heading(text: str) -> list[str]:
    return [text, "-" * len(text)]
