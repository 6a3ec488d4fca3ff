"""`python -m cdcd_video.tools.kill_resume`: see `tools.dev.killed_runs`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("killed_runs")
