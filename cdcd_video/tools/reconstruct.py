"""`python -m cdcd_video.tools.reconstruct`: see `tools.dev.codec_reconstruction`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("codec_reconstruction")
