"""A page for sampling videos: start, sentences and settings in, frames while they are sampled, files with their recipe out."""
