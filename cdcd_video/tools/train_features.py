"""`python -m cdcd_video.tools.train_features`: see `tools.dev.feature_training`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("feature_training")
