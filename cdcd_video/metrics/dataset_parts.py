"""Datasets that are parts of another one, or are put together of several: a subset, and videos of several sizes."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence

from cdcd_video.config.value_types import Size
from cdcd_video.metrics.eval_dataset import EvalDataset, VideoFrames
from cdcd_video.metrics.measurements import Measurement


class PartialDataset(EvalDataset):
    """A subset of a dataset, compared with the same other videos.

    Args:
      whole: the dataset.
      videos: numbers of the videos of the subset.
    """

    def __init__(self, whole: EvalDataset, videos: Sequence[int]):
        self._whole, self._videos = whole, list(videos)
        self.eval_videos = [whole.eval_videos[video] for video in videos]
        self.captions = {system: [captions[video] for video in videos] for system, captions in whole.captions.items()}
        self.num_others, self.other_names = whole.num_others, whole.other_names
        self.compared = [place for place, video in enumerate(videos) if video in whole.compared]
        self.digest = hashlib.sha256(json.dumps([whole.digest, self._videos]).encode()).hexdigest()

    def bucket(self, video: int) -> int:
        """That of the whole dataset."""
        return self._whole.bucket(self._videos[video])

    def real_video(self, video: int, size_px: int) -> VideoFrames:
        """The true video."""
        return self._whole.real_video(self._videos[video], size_px)

    def other(self, number: int, size_px: int) -> VideoFrames:
        """A real video of another scene or clip."""
        return self._whole.other(number, size_px)

    def measure(self, video: int, system: str, frames: VideoFrames) -> Iterator[Measurement]:
        """The measurements of the whole dataset."""
        yield from self._whole.measure(self._videos[video], system, frames)


class MixedDataset(EvalDataset):
    """Datasets of one size each as one, a clip of each in turn, so that the first videos are of all sizes.

    Scores have a group for each size, such as `size=64x96`.

    Args:
      parts: the datasets, in the order of `Protocol.sizes`.
      sizes: height and width of the evaluated frames of each, px.
    """

    def __init__(self, parts: Sequence[EvalDataset], sizes: Sequence[Size]):
        self._parts, self._groups = tuple(parts), [f"size={size}" for size in sizes]
        places = []
        for bucket, part in enumerate(parts):
            clips = {name: turn for turn, name in enumerate(dict.fromkeys(one.clip for one in part.eval_videos))}
            places += [(clips[one.clip], bucket, video) for video, one in enumerate(part.eval_videos)]
        self._places = [(bucket, video) for _, bucket, video in sorted(places)]
        self.eval_videos = [
            dataclasses.replace(one, groups=(*one.groups, self._groups[bucket]))
            for bucket, one in ((bucket, parts[bucket].eval_videos[video]) for bucket, video in self._places)
        ]
        shared = [system for system in parts[0].captions if all(system in part.captions for part in parts)]
        self.captions = {
            system: [parts[bucket].captions[system][video] for bucket, video in self._places] for system in shared
        }
        others = sorted((number, bucket) for bucket, part in enumerate(parts) for number in range(part.num_others))
        self._others = [(bucket, number) for number, bucket in others]
        self.num_others = len(self._others)
        self.other_names = [parts[bucket].other_names[number] for bucket, number in self._others]
        compared = [set(part.compared) for part in parts]
        self.compared = [number for number, (bucket, video) in enumerate(self._places) if video in compared[bucket]]
        content = [[str(size), part.digest] for size, part in zip(sizes, parts, strict=True)]
        self.digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def bucket(self, video: int) -> int:
        """The number of its part."""
        return self._places[video][0]

    def real_video(self, video: int, size_px: int) -> VideoFrames:
        """The true video."""
        bucket, number = self._places[video]
        return self._parts[bucket].real_video(number, size_px)

    def other(self, number: int, size_px: int) -> VideoFrames:
        """A real video of another scene or clip."""
        bucket, own = self._others[number]
        return self._parts[bucket].other(own, size_px)

    def measure(self, video: int, system: str, frames: VideoFrames) -> Iterator[Measurement]:
        """The measurements of the part, in the group of its size, too."""
        bucket, number = self._places[video]
        for one in self._parts[bucket].measure(number, system, frames):
            group = (self._groups[bucket],)
            yield dataclasses.replace(one, eval_video=self.eval_videos[video], groups=(*one.groups, *group))


def same_size(dataset: EvalDataset, videos: Sequence[int]) -> list[list[int]]:
    """Videos of a dataset by their size; those of one size are all in one list."""
    buckets: dict[int, list[int]] = {}
    for video in videos:
        buckets.setdefault(dataset.bucket(video), []).append(video)
    return list(buckets.values())
