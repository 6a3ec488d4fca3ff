"""The two towers, frozen: the shipped small ones, or published ones of any size."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cdcd_video.config.ranges import check_sentences
from cdcd_video.errors import UserError, say
from cdcd_video.kernels.threads import threads
from cdcd_video.networks.clip.clip_files import find, read_json, sha256_of
from cdcd_video.networks.clip.load_clip import WIDE, check_end, damaged, load_model, load_tokenizer
from cdcd_video.networks.clip.preprocessing import Pixels, pixels_of, resized
from cdcd_video.networks.clip.random_clip import mark_of
from cdcd_video.networks.clip.token_growth import growth_of, most_characters
from cdcd_video.records import Grid, TextStates
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.tensor_file import MOST_IN_16_BITS, check_numbers


@dataclass(frozen=True)
class VisionStates:
    """A batch of frames as the image tower sees them."""

    patches: tuple[Float[Tensor, "B P Dv"], ...]
    """Patch states after the embedding layer (index 0) and after each requested block, shallow to deep."""
    embedding: Float[Tensor, "B J"]
    """Unit-norm image embedding in the joint space."""


class FrozenClip(nn.Module):
    """A CLIP model whose weights never change; both towers in evaluation mode, no gradients.

    A stand-in (random weights) says so on stderr each time.

    Args:
      source: a folder (of `save_pretrained`, or an OpenCLIP export), or a name; see `find`.

    Raises:
      UserError: there is no such CLIP, a file of it is missing or damaged, or its parts do not fit.
    """

    model: Any  # a `CLIPModel`: importing it takes seconds
    mean: Tensor
    std: Tensor

    def __init__(self, source: Path | str):
        super().__init__()
        files = find(source)
        self.stand_in: str | None = mark_of(files)
        sha256 = sha256_of(files.weights)
        if files.sha256 and sha256 != files.sha256:
            raise UserError(
                f"{files.weights} is not the published file of {files.source}: its sha256 is {sha256}; delete it and get it"
                " again"
            )
        model, self.digest = load_model(files, sha256)
        check_numbers(model.state_dict(), f"file of a CLIP {files.weights}", "copy it again")
        words = read_json(files.folder / "words.json", list)
        if not all(isinstance(word, str) for word in words):
            raise UserError(
                f"CLIP folder {files.folder} is damaged (words.json has an entry that is not a word); copy it again"
            )
        config = model.config if files.layout == "transformers" else None  # an export has none that transformers reads
        tokenizer = load_tokenizer(files.folder, config)
        self._adopt(model, tokenizer, pixels_of(files), frozenset(words) if words else None)
        self.growth = growth_of(self.tokenizer, str(files.folder))
        check_end(self.tokenizer, model.config.text_config, str(files.folder))
        self._try(files.folder)
        if self.stand_in:
            say("warning", self.stand_in)

    @classmethod
    def of_parts(cls, model: nn.Module, tokenizer: Any, pixels: Pixels) -> "FrozenClip":
        """A CLIP that lies in no folder, such as one without numbers (for a dry run)."""
        clip = cls.__new__(cls)
        nn.Module.__init__(clip)
        clip.digest, clip.stand_in, clip.growth = "", None, 1.0
        clip._adopt(model, tokenizer, pixels, None)
        return clip

    def _try(self, folder: Path) -> None:
        """Looks at one picture and reads two sentences, one of them too long: what a stranger's files lead to shows here.

        Raises:
          UserError: whatever goes wrong, or comes out as no finite number.
        """
        short, too_long = "a red circle moves right", "a " * (self.max_tokens + 1)
        try:
            # One thread for a small tower: on a busy machine several would wait for each other for longer than they work.
            with threads(None if self.vision_width >= WIDE else 1):
                image = self.encode_image(torch.full((1, 3, self.image_size, self.image_size), 0.5), (0, -1))
                text = self.encode_text([short, too_long])
            self.check_caption(min(self.known_words) if self.known_words else short)
        except BaseException as error:  # broken files are met with whatever exception the readers stumble on
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of Rust: no Exception
                raise
            raise_if_out_of_memory(error)
            raise damaged(folder, error) from error
        states = {
            "pictures": image.embedding,
            "patches": image.patches[-1],
            "tokens": text.tokens,
            "sentences": text.embedding,
        }
        way_out = "they are its outputs for a grey image and two captions; copy it again"
        check_numbers(states, f"CLIP folder {folder}", way_out, MOST_IN_16_BITS)

    def _adopt(self, model: nn.Module, tokenizer: Any, pixels: Pixels, known_words: frozenset[str] | None) -> None:
        self.model, self.tokenizer, self.pixels, self.known_words = model, tokenizer, pixels, known_words
        self.model.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(pixels.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(3, 1, 1), persistent=False)

    @property
    def image_size(self) -> int:
        return self.model.config.vision_config.image_size

    @property
    def num_patches(self) -> int:
        """Of a square frame."""
        return (self.image_size // self.model.config.vision_config.patch_size) ** 2

    @property
    def vision_width(self) -> int:
        return self.model.config.vision_config.hidden_size

    @property
    def joint_width(self) -> int:
        return self.model.config.projection_dim

    @property
    def text_width(self) -> int:
        """Width of `TextStates.tokens`: two layers side by side."""
        return 2 * self.model.config.text_config.hidden_size

    @property
    def max_tokens(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def train(self, mode: bool = True) -> "FrozenClip":
        """Stays in evaluation mode whatever the module around it does."""
        return super().train(False)

    @torch.no_grad()
    def encode_image(
        self, images: Float[Tensor, "B 3 H W"], layers: Sequence[int], grid: Grid | None = None
    ) -> VisionStates:
        """Image tower: frames in [0, 1] of any size -> patch states of the requested layers, and the embedding.

        Args:
          grid: rows and columns of the patches that a frame is divided into; None: the tower's own square grid. Positions of
            another grid are interpolated from it.
        """
        return vision_states(self.model, self.normalised(images, grid), layers)

    def normalised(self, images: Float[Tensor, "B 3 H W"], grid: Grid | None = None) -> Float[Tensor, "B 3 h w"]:
        """Frames in [0, 1] as the tower wants them: of its own size, or of a grid of its patches; its mean and deviation."""
        patch, own = self.model.config.vision_config.patch_size, self.image_size
        is_own = grid in (None, (own // patch, own // patch))  # whose sides need not be a multiple of a patch's
        size = (own, own) if grid is None or is_own else (grid[0] * patch, grid[1] * patch)
        return (resized(images, size, self.pixels.mode) - self.mean) / self.std

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Captions -> token ids (B, L) and mask (B, L); what does not fit into the tower is cut off."""
        most = most_characters(self.growth)  # far more than a tower reads; the rest would be cut off all the same
        batch = self.tokenizer(
            [caption[:most] for caption in captions],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        device = self.mean.device
        return batch.input_ids.to(device), batch.attention_mask.bool().to(device)

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str]) -> TextStates:
        """Text tower: captions -> token states of the embedding layer and the last layer, and the joint embedding."""
        ids, is_word = self.tokenize(captions)
        out = self.model.text_model(input_ids=ids, attention_mask=is_word.long())
        words = self.model.text_model.embeddings(input_ids=ids)
        embedding = unit(self.model.text_projection(out.pooler_output))
        return TextStates(torch.cat([words, out.last_hidden_state], -1), is_word, embedding)

    def check_caption(self, caption: str) -> list[str]:
        """Warnings about a caption.

        Returns:
          Warnings, one sentence each; empty for a caption the model can read whole.

        Raises:
          UserError: the caption is empty, absurdly long, or holds no word this model knows.
        """
        if not caption.strip():
            raise UserError('the caption is empty; say what should happen, as in "the red circle moves right"')
        check_sentences([(0, caption)])
        warnings = []
        num_tokens = len(self.tokenizer(caption, verbose=False).input_ids)  # too long ones are truncated, see below
        if num_tokens > self.max_tokens:
            warnings.append(f"the caption has {num_tokens} tokens and the model reads the first {self.max_tokens}")
        if self.known_words is not None:
            unknown = [word for word in split_words(caption) if word not in self.known_words]
            if len(unknown) == len(split_words(caption)):
                some = ", ".join(sorted(self.known_words)[:60])
                raise UserError(f"this model knows no word of the caption {caption!r}; it was trained on: {some}")
            if unknown:
                warnings.append(f"the model never saw the words {', '.join(map(repr, unknown))} in training")
        return warnings


def vision_states(model: Any, pixels: Float[Tensor, "B 3 h w"], layers: Sequence[int]) -> VisionStates:
    """`FrozenClip.encode_image` for normalised pixels and any CLIPModel, with gradients where the caller wants them."""
    own = model.config.vision_config.image_size
    how = {} if pixels.shape[-2:] == (own, own) else {"interpolate_pos_encoding": True}
    out = model.vision_model(pixel_values=pixels, output_hidden_states=True, **how)
    patches = tuple(out.hidden_states[layer][:, 1:] for layer in layers)
    return VisionStates(patches, unit(model.visual_projection(out.pooler_output)))


def unit(embedding: Float[Tensor, "B J"]) -> Float[Tensor, "B J"]:
    """Rows of norm 1 in float32, also of a tower that runs in 16 bits: there norms would be 0.3 % off."""
    return F.normalize(embedding.float(), dim=-1)


def split_words(caption: str) -> list[str]:
    """The words of a caption, lower case, without punctuation; every letter of a script that puts no spaces between words."""
    letters = unicodedata.normalize("NFKC", caption.lower())
    return "".join(f" {letter} " if _is_word(letter) else _kept(letter) for letter in letters).split()


def _is_word(letter: str) -> bool:
    """Whether its script has no spaces: Chinese, Japanese (as wide as a square); Thai, Lao, Burmese, Khmer."""
    is_wide = letter.isalpha() and unicodedata.east_asian_width(letter) in "WF"
    return is_wide or (any(first <= letter <= last for first, last in _WITHOUT_SPACES) and letter.isalpha())


_WITHOUT_SPACES = (("\u0e00", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"))


def _kept(letter: str) -> str:
    is_mark = unicodedata.category(letter).startswith(
        "M"
    )  # such as a vowel sign, which belongs to the letter before it
    return letter if letter.isalnum() or is_mark or letter in "'-" else " "
