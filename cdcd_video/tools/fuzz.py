"""`python -m cdcd_video.tools.fuzz`: see `tools.dev.fuzzing.fuzz_command`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("fuzzing.fuzz_command")
