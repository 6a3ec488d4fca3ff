"""A published CLIP without weights, for the dry run."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode

from cdcd_video.errors import UserError
from cdcd_video.networks.clip import FrozenClip, VisionStates, find, mark_of
from cdcd_video.networks.clip.load_clip import attention_of, check_end, config_of, load_tokenizer
from cdcd_video.networks.clip.preprocessing import Pixels, pixels_of
from cdcd_video.networks.clip.published import KNOWN
from cdcd_video.networks.clip.token_growth import growth_of
from cdcd_video.records import Grid, TextStates
from cdcd_video.tools.dry_run.cost_meters import make_fake, noise
from cdcd_video.tools.stand_in_clip import OPENAI_MEAN, OPENAI_STD, learned_tokenizer


class ShapeOnlyClip(FrozenClip):
    """A CLIP with the true layers and cost, whose output is noise."""

    made_for: FakeTensorMode | None = None
    """The mode of the fake tensors that replace the weights."""

    def _mode(self, active: FakeTensorMode | None) -> FakeTensorMode:
        mode = active or FakeTensorMode(allow_non_fake_inputs=True)
        if self.made_for is not mode:
            make_fake(self.model, mode)
            self.made_for = mode
        return mode

    @torch.no_grad()
    def encode_image(self, images: Tensor, layers: Sequence[int], grid: Grid | None = None) -> VisionStates:
        """As `FrozenClip.encode_image`, on fake tensors; a caller with real ones gets noise of the right shape."""
        active = detect_fake_mode(images)
        with self._mode(active):
            states = super().encode_image(images, layers, grid)
        if active:
            return states
        return VisionStates(tuple(map(noise, states.patches)), F.normalize(noise(states.embedding), dim=-1))

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str]) -> TextStates:
        """As `FrozenClip.encode_text`, likewise."""
        active = detect_fake_mode()
        with self._mode(active):
            read = super().encode_text(captions)
        if active:
            return read
        is_word = self.tokenize(captions)[1]
        return TextStates(noise(read.tokens), is_word, F.normalize(noise(read.embedding), dim=-1))


def shape_only(source: str, captions: Sequence[str]) -> tuple[ShapeOnlyClip, list[str]]:
    """A published CLIP with its shapes, tokenizer and preprocessing; no weights are read.

    Args:
      source: as in the config.
      captions: to learn a tokenizer from where the true one is missing.

    Returns:
      The CLIP, and notes on it, one sentence each.

    Raises:
      UserError: its files are missing and its shape is not known, or they are damaged.
    """
    from transformers import CLIPConfig, CLIPModel

    try:
        files = find(source)
    except UserError as error:
        if source not in KNOWN:
            raise
        config = CLIPConfig(**KNOWN[source].shape)
        tokenizer = learned_tokenizer(list(captions), config.text_config.vocab_size)
        pixels, notes = Pixels(OPENAI_MEAN, OPENAI_STD), [f"only the shapes of CLIP are known: {error}"]
    else:
        config, tokenizer, pixels = config_of(files), load_tokenizer(files.folder), pixels_of(files)
        growth_of(tokenizer, str(files.folder))
        check_end(tokenizer, config.text_config, str(files.folder))
        mark = mark_of(files, trust=True)
        notes = [mark] if mark else []
    config._attn_implementation = attention_of(config)
    with torch.device("meta"):
        model = CLIPModel(config)
    return ShapeOnlyClip.of_parts(model, tokenizer, pixels), notes
