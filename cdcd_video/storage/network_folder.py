"""A small trained network in a folder: its weights as safetensors, and a card of facts as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cdcd_video.storage.tensor_file import check_numbers

CARD = "card.json"


def write_network(network: nn.Module, card: Mapping[str, Any], path: Path) -> Path:
    """Writes the weights to a file, whose folder is made, and the card beside it.

    Args:
      card: what is known of the network; JSON.
      path: of the weights.

    Returns:
      The path.

    Raises:
      UserError: a weight is not finite; nothing is written.
    """
    from safetensors.torch import save

    check_numbers(network.state_dict(), "the new classifier", "nothing was written; train it with another seed")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save({name: values.contiguous() for name, values in network.state_dict().items()}))
    path.with_name(CARD).write_text(json.dumps(dict(card), indent=2) + "\n", encoding="utf-8")
    return path
