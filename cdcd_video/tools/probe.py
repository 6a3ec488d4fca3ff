"""A linear probe of motion in the token states of a CLIP, fitted on some captions and scored on others."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdcd_video.data.sprites import MOTIONS, World, sample_scene
from cdcd_video.networks.clip import FrozenClip

NUM_FIT, NUM_SCORED = 1024, 512
RIDGE = 1e-2


def motion_probe(clip: FrozenClip) -> dict[str, float]:
    """Accuracy of ridge regressions from caption states to the motion phrase of one-object sprites captions.

    The states are averaged over the caption's tokens. Chance is the fraction of the most common motion. With
    a closed vocabulary an untrained tower passes as well, so the probe detects lost information, not good features.

    Returns:
      Accuracy from the embedding layer, the last layer and the joint embedding, and chance; captions fitted and scored.
    """
    world = World(max_objects=1)
    scenes = [sample_scene(1, index, "train", world=world) for index in range(NUM_FIT + NUM_SCORED)]
    text = clip.encode_text([scene.caption for scene in scenes])
    motion = torch.tensor([MOTIONS.index(scene.objects[0].motion) for scene in scenes])
    mean = (text.tokens * text.is_word[..., None]).sum(1) / text.is_word.sum(1, keepdim=True)
    words, last = mean.chunk(2, -1)
    accuracy = {
        "embedding_layer": probe_accuracy(words, motion, NUM_FIT),
        "last_layer": probe_accuracy(last, motion, NUM_FIT),
        "joint_embedding": probe_accuracy(text.embedding, motion, NUM_FIT),
    }
    chance = torch.bincount(motion[NUM_FIT:]).max().item() / NUM_SCORED
    return accuracy | {"chance": chance, "fitted": NUM_FIT, "scored": NUM_SCORED}


def probe_accuracy(states: Float[Tensor, "n D"], label: Int[Tensor, "n"], num_fit: int) -> float:
    """Accuracy of a ridge regression that is fitted on the first `num_fit` rows, on the others."""
    states = (states - states[:num_fit].mean(0)) / states[:num_fit].std(0).clamp_min(1e-6)
    states = torch.cat([states, torch.ones(len(states), 1, device=states.device)], 1).double()
    target = torch.nn.functional.one_hot(label).to(states)
    fit = states[:num_fit]
    gram = fit.T @ fit + RIDGE * num_fit * torch.eye(fit.shape[1], dtype=fit.dtype, device=fit.device)
    guess = (states[num_fit:] @ torch.linalg.solve(gram, fit.T @ target[:num_fit])).argmax(1)
    return (guess == label[num_fit:].to(guess.device)).double().mean().item()
