"""MNIST for tests marked `shared`: its four files lie in two folders there."""

from pathlib import Path


def mnist_folder(shared_dir: Path, folder: Path) -> Path:
    """A folder with links to the four files."""
    data = shared_dir / "data"
    for file in (*(data / "mnist").glob("*ubyte.gz"), data / "real" / "MNIST" / "train-images-idx3-ubyte.gz"):
        (folder / file.name).symlink_to(file)
    return folder
