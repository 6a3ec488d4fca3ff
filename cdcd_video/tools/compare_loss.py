"""`python -m cdcd_video.tools.compare_loss`: see `tools.dev.loss_comparison`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("loss_comparison")
