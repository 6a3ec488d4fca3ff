"""A small trained network in a folder: its weights as safetensors, and a card of facts as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cdcd_video.storage.tensor_file import check_numbers
from cdcd_video.storage.whole_file import whole_file

CARD = "card.json"


def write_network(network: nn.Module, card: Mapping[str, Any], path: Path) -> Path:
    """Writes the weights to a file, whose folder is made, and the card beside it.

    Args:
      card: what is known of the network; JSON.
      path: of the weights.

    Returns:
      The path.

    Raises:
      UserError: a weight is not finite, or the place cannot be written; what was there before stays.
    """
    from safetensors.torch import save

    file = path.with_name(CARD)

    check_numbers(network.state_dict(), "the new classifier", "nothing was written; train it with another seed")
    with whole_file(file) as facts:
        facts.write_text(json.dumps(dict(card), indent=2) + "\n", encoding="utf-8")
        with whole_file(path) as weights:
            weights.write_bytes(save({name: values.contiguous() for name, values in network.state_dict().items()}))
            file.unlink(missing_ok=True)  # whoever is killed now leaves no card, and not that of other weights
    return path
