"""`python -m cdcd_video.tools.cuts`: see `tools.dev.cut_accuracy`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("cut_accuracy")
