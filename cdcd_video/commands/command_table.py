"""The commands of `cdcd-video` as a table: what each is for, and where its code is. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
      name: its word after `cdcd-video`.
      summary: what it does, for the list of commands.
      entrance: `module:function`, which takes the other words and the program's name for its help, and returns an exit code
        or None. It is imported when the command is called.
      extra: of pyproject.toml, to be named where a library that it needs is missing and several extras bring it.
    """

    name: str
    summary: str
    entrance: str
    extra: str = ""


COMMANDS = (
    Command("sample", "sample a video from an image and a caption", "cdcd_video.commands.sample_command:main"),
    Command(
        "train", "train a model, or resume; --dry-run shows every tensor", "cdcd_video.commands.train_command:main"
    ),
    Command("evaluate", "evaluate a model, or videos", "cdcd_video.commands.evaluate_command:main", "eval"),
    Command("prepare", "prepare clips and captions for training", "data_prep.__main__:main", "data"),
    Command("rate", "human evaluation: a blind rating page", "cdcd_video.rate.__main__:main", "rate"),
    Command("studio", "sample videos in a browser", "cdcd_video.studio.__main__:main", "studio"),
    Command("ablate", "train and compare the cells of an ablation", "cdcd_video.ablate.__main__:main", "eval"),
    Command("bench", "measure time and memory on this machine", "cdcd_video.tools.bench.__main__:main", "eval"),
)
"""All commands in the order of the help. A new one is a line here, and an entrance."""
