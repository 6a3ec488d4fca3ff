"""An ablation as one command: every arm under every seed, trained and measured alike, and what the intervals part."""
