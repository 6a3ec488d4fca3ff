"""The names of a call's arguments: two names for one thing, names that do not exist, and which one was meant."""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from cdcd_video.config.sampling_params import SamplingParams
from cdcd_video.errors import UserError

if TYPE_CHECKING:
    NoArgument = NoReturn
    """Of `**unknown`, which is there for its message: type checkers refuse every name."""
else:
    NoArgument = Any  # nothing is of the type NoReturn, and so it cannot be checked at run time

OTHER_NAMES = MappingProxyType({"text": "prompt", "num_steps": "num_inference_steps", "guidance": "guidance_scale"})
"""The names of this project and those that diffusers has for the same."""

_MEANT = {
    **dict.fromkeys(("caption", "captions", "prompts", "sentence", "description"), "prompt"),
    **dict.fromkeys(("images", "frame", "first_frame", "start", "start_image", "init_image", "input_image"), "image"),
    **dict.fromkeys(("last_frame", "end_image", "end_frame", "image_end", "tail_image"), "last_image"),
    **dict.fromkeys(("steps", "inference_steps", "sampling_steps"), "num_inference_steps"),
    **dict.fromkeys(("cfg", "cfg_scale", "scale", "w"), "guidance_scale"),
    **dict.fromkeys(("frames", "length", "video_length", "n_frames"), "num_frames"),
    **dict.fromkeys(("frame_rate", "rate"), "fps"),
    **dict.fromkeys(("callback", "callback_steps", "on_step_end"), "callback_on_step_end"),
    **dict.fromkeys(("num_images_per_prompt", "num_videos", "batch_size", "num_samples"), "num_videos_per_prompt"),
    **dict.fromkeys(("random_seed", "seeds", "manual_seed", "rng", "generators"), "seed"),
    **dict.fromkeys(("sampler", "scheduler"), "order"),
    **dict.fromkeys(("p", "nucleus"), "top_p"),
    **dict.fromkeys(("return_type", "format", "output"), "output_type"),
    **dict.fromkeys(("device_map", "map_location"), "device"),
    **dict.fromkeys(("variant", "half", "fp16", "bf16"), "dtype"),
    **dict.fromkeys(("use_auth_token", "hf_token", "auth_token"), "token"),
    **dict.fromkeys(("branch", "commit"), "revision"),
    **dict.fromkeys(("save_directory", "path", "output_dir"), "folder"),
}
"""Names that other libraries have for ours, where spelling does not lead to it."""

_ELSEWHERE = MappingProxyType(
    {
        "push_to_hub": 'call pipe.push_to_hub("owner/name")',
        **dict.fromkeys(("latents", "prompt_embeds", "image_embeds"), "give the image and the prompt themselves"),
        "duration": "give num_frames and fps",
    }
)
"""Arguments of other libraries, and what does the same here."""

MISSING = MappingProxyType(
    {
        **dict.fromkeys(
            ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload", "enable_vae_slicing")
            + ("enable_vae_tiling", "enable_attention_slicing", "enable_xformers_memory_efficient_attention"),
            "the model is small enough to stay where it is; move it with pipe.to(device)",
        ),
        **dict.fromkeys(("cuda", "cpu", "half", "float"), "use pipe.to(device, dtype)"),
        **dict.fromkeys(("eval", "train", "requires_grad_"), "it is for sampling only; `train.py` trains a model"),
        **dict.fromkeys(
            ("components", "parameters", "named_parameters", "state_dict"),
            "its networks are pipe.model.clip, pipe.model.codec and pipe.model.denoiser",
        ),
        **dict.fromkeys(("generate", "predict", "run", "forward", "encode_prompt"), "call it: pipe(image, prompt)"),
        **dict.fromkeys(("interrupt", "_interrupt"), "raise an exception in callback_on_step_end to stop"),
        **dict.fromkeys(
            ("scheduler", "num_timesteps"),
            "choose num_inference_steps and order in the call; pipe.defaults() lists both",
        ),
        **dict.fromkeys(("unet", "transformer"), "the network is pipe.model.denoiser"),
        **dict.fromkeys(("vae", "image_encoder"), "the codec is pipe.model.codec, and CLIP pipe.model.clip"),
        **dict.fromkeys(("text_encoder", "tokenizer"), "CLIP is pipe.model.clip"),
        **dict.fromkeys(("config",), "it is pipe.model.config"),
        **dict.fromkeys(
            ("set_progress_bar_config", "progress_bar"), "no bar is shown; give progress=..., a function, in the call"
        ),
        **dict.fromkeys(
            ("load_lora_weights", "fuse_lora", "load_ip_adapter"), "train further with `train.py --set init=MODEL`"
        ),
    }
)
"""What pipelines of diffusers have and this one does not, and what to do in its place."""


def one_of(ours: str, value: Any, theirs: Any) -> Any:
    """The value of an argument that has two names; None where neither is given.

    Args:
      ours: the name in this project; `OTHER_NAMES` has the other.
      value, theirs: what was given by either name.

    Raises:
      UserError: both are given, and not the same.
    """
    if value is None or theirs is None:
        return theirs if value is None else value
    if not np.array_equal(value, theirs):  # also for lists, and for arrays of them
        raise UserError(
            f"{ours} and {OTHER_NAMES[ours]} are two names for the same, but one is {value!r} and the other {theirs!r};"
            " give one of them"
        )
    return value


def refuse_unknown(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuses arguments that do not exist, and names the one that may have been meant.

    Raises:
      TypeError: there are some; one sentence on the first.
    """
    for name in given:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        meant = _MEANT[name] if _MEANT.get(name) in known else near[0] if near else None
        way_out = f"did you mean {meant!r}?" if meant else f"it has {', '.join(known)}"
        way_out = _ELSEWHERE.get(name, way_out)
        raise TypeError(f"{what} has no argument {name!r}; {way_out}")


def names_of(function: Callable[..., Any]) -> list[str]:
    """Names of a function's arguments, without those for whatever else is given."""
    return [name for name, one in inspect.signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD]


def choose(name: str, value: Any, known: Collection[str], meant: Mapping[str, str] = MappingProxyType({})) -> str:
    """One of a few words.

    Args:
      meant: words that other libraries have for these.

    Raises:
      UserError: it is none of them.
    """
    if isinstance(value, str) and value in known:
        return value
    word = str(value).lower()
    near = [meant[word]] if word in meant else difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    way_out = f" (did you mean {near[0]!r}?)" if near else ""
    raise UserError(f"{name} is {value!r}; it must be one of {', '.join(known)}{way_out}")


def check_function(name: str, value: Any) -> None:
    """Checks an argument that is called while a video is sampled; None stands for nothing to call.

    Raises:
      UserError: it cannot be called.
    """
    if value is not None and not callable(value):
        raise UserError(f"{name} is of the type {type(value).__name__}; give a function, or leave {name} out")


def settings_of(given: Any, defaults: Callable[..., SamplingParams]) -> SamplingParams:
    """Settings of a sampler, or a dictionary of some of them.

    Args:
      defaults: completes a dictionary, and gives what holds where nothing is given.

    Raises:
      UserError: it is neither, or a value is out of its range.
      TypeError: there is no such setting.
    """
    if isinstance(given, SamplingParams):
        return given
    if given is None or (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
        return defaults(**given or {})
    raise UserError(
        f"params is of the type {type(given).__name__}; give pipe.defaults(num_frames=8), with the settings that you want"
    )


def missing_attribute(name: str, known: Mapping[str, Any] | Collection[str]) -> AttributeError:
    """The error on an attribute that a pipeline does not have: one sentence with the way out, if one is known."""
    near = difflib.get_close_matches(name, [other for other in known if not other.startswith("_")], n=1, cutoff=0.75)
    way_out = f": {MISSING[name]}" if name in MISSING else f"; did you mean {near[0]!r}?" if near else ""
    return AttributeError(f"ImageToVideo has no attribute {name!r}{way_out}")
