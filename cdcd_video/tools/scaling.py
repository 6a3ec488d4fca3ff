"""`python -m cdcd_video.tools.scaling`: see `tools.dev.scaling_estimate`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("scaling_estimate")
