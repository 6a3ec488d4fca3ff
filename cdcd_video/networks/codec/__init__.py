"""Pixels <-> codes: CLIP patch states, projection, quantiser, decoder, and the `embed` head into CLIP's joint space."""
