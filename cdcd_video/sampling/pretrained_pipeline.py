"""Pipelines that are loaded by name, from a folder or the Hub, and saved there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import torch

from cdcd_video.config.ranges import check_settings
from cdcd_video.engine.precision import Precision, for_sampling, precision_of
from cdcd_video.engine.runtime import device_for
from cdcd_video.errors import UserError
from cdcd_video.model import load_model
from cdcd_video.sampling.call_names import MISSING, NoArgument, choose, missing_attribute, names_of, refuse_unknown
from cdcd_video.sampling.frame_sizes import FrameSizes
from cdcd_video.sampling.latent_pipeline import LatentPipeline, Pipeline
from cdcd_video.sampling.model_hub import find_model, push_model, save_model


class PretrainedPipeline(LatentPipeline):
    """A `LatentPipeline` of a model that was trained before."""

    @property
    def sizes(self) -> FrameSizes:
        """The sizes of frames that the model was trained on."""
        return FrameSizes.of(self.model.config, self.model.codec.decoder.patch_px)

    @classmethod
    def from_pretrained(
        cls: type[Pipeline],
        name_or_path: str | Path = "sprites",
        device: str | int | torch.device = "auto",
        precision: Literal["auto", "bf16", "fp32"] | None = None,
        *,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        token: str | bool | None = None,
        use_safetensors: bool = True,
        **unknown: NoArgument,
    ) -> Pipeline:
        """Loads a model: a shipped one by name, a model or run folder, or `owner/name` from the Hub.

        Args:
          precision: `auto`, the default, is bf16 on a GPU that has it, and fp32 elsewhere.
          device: "auto", "cpu", "cuda" or "cuda:1", or the number of a GPU.
          dtype, torch_dtype: the same as a dtype or its name: torch.bfloat16 or torch.float32; or "auto".
          revision: branch, tag or commit of a model on the Hub.
          cache_dir: of the Hub's files; by default that of huggingface_hub (HF_HUB_CACHE).
          local_files_only: takes a model of the Hub from the cache, as does HF_HUB_OFFLINE=1 in the environment.
          force_download: downloads again what is in the cache.
          token: for a private or gated model; by default that of `hf auth login`.
          use_safetensors: always; pickles are never read.

        Raises:
          UserError: there is no such model or precision, it cannot be downloaded, or it is damaged.
          TypeError: an argument that does not exist.
        """
        refuse_unknown("from_pretrained", unknown, names_of(PretrainedPipeline.from_pretrained))
        if not use_safetensors:
            raise UserError("use_safetensors is False, but weights are read from safetensors only; leave it out")
        dtypes = {precision_of(one) for one in (dtype, torch_dtype) if one is not None and one != "auto"}
        if len(dtypes | ({precision} if precision else set())) > 1:
            raise UserError("precision, dtype and torch_dtype are names for the same, but differ; give one of them")
        chosen: Any = precision or next(iter(dtypes), "auto")
        if chosen not in ("auto", *get_args(Precision)):
            raise UserError(f"precision is {chosen}; it must be auto, {' or '.join(get_args(Precision))}")
        where = device_for(device)
        folder = find_model(
            name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            token=token,
        )
        pipe = cls(load_model(folder, where), for_sampling(where) if chosen == "auto" else chosen)
        pipe._precision_follows_device, pipe.checkpoint = chosen == "auto", str(name_or_path)
        return pipe

    def compile(self: Pipeline, **options: object) -> Pipeline:
        """Compiles the network that predicts the next frame by `torch.compile`, in place; takes effect at the next video.

        It pays off for many videos of one shape. Last bits may differ from those of the uncompiled network.

        Args:
          **options: those of `torch.compile`: `mode`, `backend`, `dynamic` and so on.

        Returns:
          The pipeline itself.

        Raises:
          UserError: `torch.compile` does not take an option.
        """
        try:
            self.model.denoiser.compile(**options)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"torch.compile refuses this ({error}); call pipe.compile() without options") from None
        return self

    def save_pretrained(self, folder: str | Path, *, safe_serialization: bool = True, **unknown: NoArgument) -> Path:
        """Writes the model into a folder that `from_pretrained` loads, with the same bits; see `model_hub.save_model`.

        Args:
          safe_serialization: always; pickles are never written.

        Raises:
          UserError: the folder holds something else, or cannot be written.
          TypeError: an argument that does not exist.
        """
        refuse_unknown("save_pretrained", unknown, names_of(PretrainedPipeline.save_pretrained))
        if not safe_serialization:
            raise UserError("safe_serialization is False, but weights are written as safetensors only; leave it out")
        return save_model(self.model, folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
    ) -> str:
        """Uploads the model to the Hub in one commit.

        Args:
          repo_id: `owner/name`; made if there is none, and `private` says how.
          revision: the branch; by default main.
          create_pr: proposes the commit in a pull request.
          token: by default that of `hf auth login`.

        Returns:
          The address of the commit, or of the pull request.

        Raises:
          UserError: the Hub cannot be reached or refuses.
        """
        given: dict[str, Any] = dict(
            private=private, commit_message=commit_message, revision=revision, create_pr=create_pr
        )
        return push_model(self.model, repo_id, **given, token=token)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses what other pipelines let you set and this one does not have: it would have no effect. And wrong values."""
        if name in MISSING:
            raise missing_attribute(name, ())
        if name == "num_threads" and value is not None:
            check_settings({"threads": value})
        if name == "precision":
            choose(name, value, get_args(Precision))
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # for type checkers an attribute that is missing stays an error

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_attribute(name, dir(type(self)))
