"""From a caption and a first frame to the codes of the next frames."""
