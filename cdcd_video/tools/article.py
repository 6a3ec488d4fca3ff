"""`python -m cdcd_video.tools.article`: see `tools.dev.article.article_command`."""

from cdcd_video.tools import developer_command

if __name__ == "__main__":
    developer_command.run("article.article_command")
