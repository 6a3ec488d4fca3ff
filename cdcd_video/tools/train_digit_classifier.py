"""`python -m cdcd_video.tools.train_digit_classifier`: see `tools.dev.digit_training`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("digit_training")
