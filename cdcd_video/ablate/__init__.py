"""An ablation as one command: trains and evaluates every arm with every seed, and tests the differences."""
