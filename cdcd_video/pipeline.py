"""Sampling a video: image + caption -> codes -> one reverse process per frame, all in latent space -> frames -> Video."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import UInt8

from cdcd_video.config import SamplingParams
from cdcd_video.config.model_digest import earlier_digests
from cdcd_video.config.sampling_params import Decoded, Order, Solver, Unchanged
from cdcd_video.config.value_types import Fit
from cdcd_video.config.video_record import FrameRecord, Record, differences
from cdcd_video.diffusion.sampler import has_order
from cdcd_video.engine.precision import Precision
from cdcd_video.errors import SamplingWarning, UserError
from cdcd_video.model import Model
from cdcd_video.networks.clip import STAND_IN
from cdcd_video.sampled_video import Video
from cdcd_video.sampling import call_names
from cdcd_video.sampling.call_inputs import CallInputs, Generators, call_inputs
from cdcd_video.sampling.call_names import NoArgument
from cdcd_video.sampling.call_outputs import (
    OTHER_OUTPUT_TYPES,
    CallbackOnStepEnd,
    OutputType,
    VideoOutput,
    check_layout,
    in_layout,
    on_frame_of,
    versions,
)
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.sampling.frame_sizes import Size
from cdcd_video.sampling.latent_pipeline import OUT_OF_MEMORY, Frames, OnFrame, Progress, Start, Text
from cdcd_video.sampling.notes import advice, advice_on_last
from cdcd_video.sampling.pretrained_pipeline import PretrainedPipeline
from cdcd_video.sampling.start_images import Image, Images
from cdcd_video.storage.memory import user_error_when_out

MOST_AT_ONCE = 16
"""Videos of a call that are sampled as one batch."""


class ImageToVideo(PretrainedPipeline):
    """The public face of a trained model: `pipe(image, "the red circle moves right")`. See docs/pipeline.md."""

    def __init__(self, model: Model, precision: Precision = "fp32"):
        if isinstance(model, str | Path):
            raise UserError(f"a model is loaded by its name with ImageToVideo.from_pretrained({str(model)!r})")
        if not isinstance(model, Model):
            raise UserError(f"the model is of the type {type(model).__name__}; use ImageToVideo.from_pretrained(name)")
        super().__init__(model, precision)

    def defaults(self, **changes: Any) -> SamplingParams:
        """The model's own sampling parameters, with those that are given (and not None) changed.

        Raises:
          UserError: a value out of its range, or a parameter that the model does not have.
          TypeError: there is no such parameter.
        """
        for ours, theirs in call_names.OTHER_NAMES.items():
            if theirs in changes:
                changes[ours] = call_names.one_of(ours, changes.get(ours), changes.pop(theirs))
        changes = {name: value for name, value in changes.items() if value is not None}
        known = SamplingParams.model_fields
        call_names.refuse_unknown("SamplingParams", changes.keys() - known.keys(), [*known])
        params = self.model.config.sample.changed(**changes)
        baseline = self.model.config.baseline
        if baseline and (params.order != "ancestral" or params.contrast):
            raise UserError(
                f"the model is the baseline {baseline.kind}, which supports neither order nor contrast; leave both out"
            )
        if baseline:
            return params
        if params.order != "ancestral" and not has_order(self.model.process):
            kind = self.model.config.diffusion.process.kind
            raise UserError(f"order {params.order} needs the process mask, but the model uses {kind}; use ancestral")
        most = self.model.process.num_steps
        if most is not None and params.num_steps > most:
            raise UserError(f"{params.num_steps} steps are more than the model's chain has; use at most {most}")
        return params

    def warnings(self, caption: Text, params: SamplingParams, start: Start | None = None) -> list[str]:
        """Warnings before sampling, one sentence each; see `advice`.

        Raises:
          UserError: a caption that cannot be used.
        """
        return advice(self.model, CaptionSchedule.of(caption), params, start)

    def __call__(
        self,
        image: Images | None = None,
        text: Text | Sequence[Text] | None = None,
        *,
        prompt: Text | Sequence[Text] | None = None,
        negative_prompt: str | Sequence[str | None] | None = None,
        last_image: Images | None = None,
        num_frames: int | None = None,
        fps: float | None = None,
        num_steps: int | None = None,
        num_inference_steps: int | None = None,
        guidance: float | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        order: Order | None = None,
        contrast: float | None = None,
        lookback_s: float | None = None,
        longest_gap_s: float | None = None,
        decoded: Decoded | None = None,
        unchanged: Unchanged | None = None,
        solver: Solver | None = None,
        seed: int | Sequence[int] | None = None,
        generator: Generators | None = None,
        num_videos_per_prompt: int | None = 1,
        height: int | None = None,
        width: int | None = None,
        fit: Fit | None = None,
        output_type: OutputType | None = None,
        return_dict: bool = True,
        callback_on_step_end: CallbackOnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        progress: Progress = None,
        **unknown: NoArgument,
    ) -> Any:
        """Samples one video, or several at once; each has the bits that a call of its own gives.

        Args:
          image: the starting frame (see `start_images.Image`), or several; brought to a shape of the model's frames as `fit`
            says, and resized. One of the model's size is frame 0 of the video, unchanged.
          text, prompt: what happens; or [(frame, sentence), ...] for sentences that change along the video; or a list.
          negative_prompt: guidance leads away from this sentence, and not from the empty caption; or a list.
          last_image: the frame in which the video ends, treated as `image` is, for models that were trained with last frames; or
            a list. All frames between are conditioned on both.
          num_frames ... solver: fields of `SamplingParams`; the model has its own defaults. `num_inference_steps` is
            `num_steps`, and `guidance_scale` is `guidance`.
          seed, generator, num_videos_per_prompt: see `call_inputs`.
          height, width: the model's own size, or left out. Of a model that was trained on several sizes the size of the
            video; without it, the image chooses (`frame_sizes.FrameSizes.fitted`).
          fit: `crop`, `letterbox` or `exact`, see `value_types.Fit`; by default as the training frames were treated.
          output_type: "np", "pil", "pt" or "latent" for diffusers' layouts; by default `Video`.
          return_dict: False returns the frames in a tuple, as diffusers does.
          callback_on_step_end, callback_on_step_end_tensor_inputs: called after every frame; see `on_frame_of`.
          progress: called with the number of videos after every frame.

        Returns:
          A `Video`; a list of them where image, prompt or seed is a list; with an `output_type` a `VideoOutput`.

        Raises:
          UserError: an image, caption or setting that cannot be used.
          TypeError: an argument that does not exist.

        Warns:
          SamplingWarning: each sentence of `warnings`.
        """
        call_names.refuse_unknown("ImageToVideo", unknown, call_names.names_of(self.__call__))
        call_names.check_function("progress", progress)
        settings: dict[str, Any] = dict(
            num_frames=num_frames, fps=fps, temperature=temperature, top_p=top_p, top_k=top_k, order=order
        )
        settings |= dict(contrast=contrast, lookback_s=lookback_s, longest_gap_s=longest_gap_s, decoded=decoded)
        settings |= dict(
            unchanged=unchanged, solver=solver, num_steps=num_steps, num_inference_steps=num_inference_steps
        )
        params = self.defaults(**settings, guidance=guidance, guidance_scale=guidance_scale)
        if output_type is not None:
            call_names.choose("output_type", output_type, get_args(OutputType), OTHER_OUTPUT_TYPES)
        size = self.sizes.chosen(height, width)
        text = call_names.one_of("text", text, prompt)
        given = (image, text, negative_prompt, seed, generator, num_videos_per_prompt, params.seed)
        inputs = call_inputs(*given, last=last_image)
        each = [params.changed(seed=one) for one in inputs.seeds]
        on_frame = on_frame_of(
            self, callback_on_step_end, callback_on_step_end_tensor_inputs, self.model.codec.num_codes
        )
        with user_error_when_out(*OUT_OF_MEMORY):  # no decorator: warnings name the line that called
            starts, lasts = self._begin(inputs, params, fit, size)
            check_layout(starts, output_type)
            found = self._sampled(starts, lasts, inputs, each, progress, on_frame, is_latent=output_type == "latent")
        about = [
            self.settings(caption, one, negative)
            for caption, one, negative in zip(inputs.captions, each, inputs.negatives, strict=True)
        ]
        if output_type is None:
            made: list[Any] = [self.made_with] * len(found)
            if lasts is not None:
                made = [self.made_with | {"last_frame": FrameRecord.of(last, "last_frame.png")} for last in lasts]
            if callback_on_step_end:  # latents that were replaced are in no recipe
                made = [None] * len(found)
            videos = [Video(frames, params.fps, *facts) for frames, *facts in zip(found, about, made, strict=True)]
            result: Any = videos if inputs.is_list else videos[0]
        else:
            frames = torch.stack(found) if output_type == "latent" else in_layout(found, output_type)
            result = VideoOutput(frames, about) if return_dict else frames
        return result if return_dict else (result,)

    def _sampled(
        self,
        starts: Sequence[Start],
        lasts: Sequence[Start] | None,
        inputs: CallInputs,
        params: Sequence[SamplingParams],
        progress: Progress,
        on_frame: OnFrame,
        *,
        is_latent: bool,
    ) -> list[Any]:
        """Frames of each video, or its latents; several videos of one size in batches of `MOST_AT_ONCE`."""
        if len(starts) == 1 and not is_latent:
            given: dict[str, Any] = dict(negatives=inputs.negatives, on_frame=on_frame, lasts=_stacked(lasts))
            parts = self._parts(starts[0], inputs.captions[0], params[0], progress, **given)
            return [np.concatenate(list(parts))]
        found: dict[int, Any] = {}
        method = self.roll_out if is_latent else self.sample
        for size in dict.fromkeys(start.shape for start in starts):
            of_size = [row for row, start in enumerate(starts) if start.shape == size]
            for begin in range(0, len(of_size), MOST_AT_ONCE):
                rows = of_size[begin : begin + MOST_AT_ONCE]
                given = dict(negatives=[inputs.negatives[row] for row in rows], on_frame=on_frame)
                given["lasts"] = _stacked(lasts and [lasts[row] for row in rows])
                first, captions = np.stack([starts[row] for row in rows]), [inputs.captions[row] for row in rows]
                videos = method(first, captions, params[0], [inputs.seeds[row] for row in rows], progress, **given)
                found |= dict(zip(rows, videos, strict=True))
        return [found[row] for row in range(len(starts))]

    def stream(
        self,
        image: Image,
        text: Text,
        params: SamplingParams | Mapping[str, Any] | None = None,
        progress: Progress = None,
        *,
        negative_prompt: str | None = None,
        last_image: Image | None = None,
        fit: Fit | None = None,
    ) -> Iterator[UInt8[np.ndarray, "_ H W 3"]]:
        """The same video part after part, each as soon as it is sampled, so that only one part is in memory.

        Args:
          image, text, negative_prompt, last_image, fit, progress: as for calling, but for one video.
          params: of `defaults`, or a dictionary of what `defaults` takes.

        Yields:
          At most `DECODE_BATCH` frames, in order.

        Raises:
          UserError: an image, caption or setting that cannot be used; raised by this call, not by the first part.

        Warns:
          SamplingWarning: as calling does.
        """
        call_names.check_function("progress", progress)
        params = call_names.settings_of(params, self.defaults)
        inputs = call_inputs(image, text, negative_prompt, last=last_image)
        if len(inputs.images) > 1:
            raise UserError(
                "a stream is of one video; give one image and one prompt, or call the pipeline with the lists"
            )
        starts, lasts = self._begin(inputs, params, fit)
        return self._parts(starts[0], inputs.captions[0], params, progress, inputs.negatives, lasts=_stacked(lasts))

    def _begin(
        self, inputs: CallInputs, params: SamplingParams, fit: Fit | None, size: Size | None = None
    ) -> tuple[list[Start], list[Start] | None]:
        """First and last frames at the size of each video; warns on behalf of the caller of `__call__` or `stream`."""
        starts, lasts, sizes = [], [], self.sizes
        if fit is not None:
            call_names.choose("fit", fit, get_args(Fit))
        notes = inputs.notes + ([] if inputs.lasts is None else advice_on_last(self.model, params))
        for image, caption, negative in zip(inputs.images, inputs.captions, inputs.negatives, strict=True):
            start, on_sides = sizes.fitted(image, fit) if size is None else sizes.fitted_to(size, image, fit)
            starts.append(start)
            notes += on_sides + advice(self.model, caption, params, starts[-1], negative)
        for image, start in zip(inputs.lasts or (), starts, strict=inputs.lasts is not None):
            last, on_sides = sizes.fitted_to(start.shape[:2], image, fit, "last image")
            lasts.append(last)
            notes += on_sides
        for note in dict.fromkeys(notes):
            warnings.warn(note, SamplingWarning, stacklevel=3)
        return starts, lasts or None

    def sample_again(self, recipe: Record | Video | str | Path) -> Video:
        """Samples the video of a recipe again, bit for bit where versions, device and processor are those of before.

        Args:
          recipe: of `Video.load_recipe`, or a path for it; or a video as the pipeline returned it.

        Raises:
          UserError: the recipe cannot be read, or is of another model; or the video does not say how it was made.

        Warns:
          SamplingWarning: what may change bits, and what calling warns of.
        """
        recipe = recipe.record() if isinstance(recipe, Video) else recipe
        record = recipe if isinstance(recipe, Record) else Video.load_recipe(recipe)
        before, self.num_threads = self.num_threads, record.threads
        try:
            now = {"model_sha256": self.model.digest, "versions": versions(), **self.made_with}
            folder = self.model.folder
            for note in differences(record, now, lambda: earlier_digests(folder) if folder else ()):
                warnings.warn(note, SamplingWarning, stacklevel=2)
            last = record.last_frame.read("last_frame") if record.last_frame else None
            negative = record.negative_prompt or ""
            frame = record.frame.pixels
            height, width = (None, None) if self.sizes.is_square else frame.shape[:2]
            given = dict(negative_prompt=negative, last_image=last, height=height, width=width, **record.sampling)
            return self(frame, list(record.text), **given)
        finally:
            self.num_threads = before

    @property
    def made_with(self) -> dict[str, Any]:
        """Where the model comes from, and on what its bits depend beside settings and versions; see `Video.made_with`."""
        threads = self.num_threads or torch.get_num_threads()
        return {"checkpoint": self.checkpoint, "device": str(self.device), "threads": threads}

    def settings(self, text: Text, params: SamplingParams, negative_prompt: str = "") -> dict[str, Any]:
        """What is written beside a video: enough to sample it again."""
        return {
            "text": [[frame, sentence] for frame, sentence in CaptionSchedule.of(text).turns],
            **({"negative_prompt": negative_prompt} if negative_prompt.strip() else {}),
            **params.described(),
            "model": self.model.config.name,
            "model_sha256": self.model.digest,
            **({STAND_IN: self.model.clip.stand_in} if self.model.clip.stand_in else {}),
            "versions": versions(),
        }

    def __repr__(self) -> str:
        size = f"{self.size_px} x {self.size_px} px"
        return f"ImageToVideo({self.checkpoint}, {size}, {self.device}, {str(self.dtype).removeprefix('torch.')})"


def _stacked(frames: Sequence[Start] | None) -> Frames | None:
    """Frames of one size as one array."""
    return None if frames is None else np.stack(frames)
