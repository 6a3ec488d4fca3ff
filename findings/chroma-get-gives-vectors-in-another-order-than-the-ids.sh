#!/usr/bin/env bash
# chromadb 1.5.9. collection.get(ids=["c7", "c3", "c11"]) should give three vectors in this order, as qdrant-client's retrieve does
# and as indexing does elsewhere.
# They come in the order in which they were added: c3, c7, c11. An id that is not there is left out without a word, and so is each
# vector behind it moved up. Rows that are put beside captions or labels of one's own list belong to other clips; cosine
# similarities of frame and caption are those of strangers. The ids are in the answer, in its order, and get() of ids as they were
# added is right by luck. After delete and add again a clip stands at the end.
# add with an id that is there already keeps the old vector, and update of one that is not there does nothing, both in silence.
# Do instead: make a dict, dict(zip(answer["ids"], answer["embeddings"])), and look each id up in it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check chromadb==1.5.9 qdrant-client==1.20.0 numpy==2.4.6
cd "$work"
HOME="$work" venv/bin/python - <<'EOF'
import importlib.metadata

import chromadb
import numpy as np
from chromadb.config import Settings
from qdrant_client import QdrantClient, models

print("chromadb", importlib.metadata.version("chromadb"))
collection = chromadb.EphemeralClient(Settings(anonymized_telemetry=False)).create_collection("clips", embedding_function=None)
vectors = np.arange(20, dtype=np.float32)[:, None] * np.ones(4, np.float32)
collection.add(ids=[f"c{number}" for number in range(20)], embeddings=vectors)
qdrant = QdrantClient(":memory:")
qdrant.create_collection("clips", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
qdrant.upsert("clips", points=[models.PointStruct(id=number, vector=vector.tolist()) for number, vector in enumerate(vectors)])


def first_values(numbers):
    """The first value of each vector, which is the number of its clip, as Chroma gives them for these clips."""
    answer = collection.get(ids=[f"c{number}" for number in numbers], include=["embeddings"])
    found = [int(vector[0]) for vector in answer["embeddings"]]
    assert answer["ids"] == [f"c{number}" for number in found]
    return found


for asked, expected in (([3, 7, 11], [3, 7, 11]), ([7, 3, 11], [3, 7, 11]), ([19, 0, 10], [0, 10, 19]), ([2, 99, 5], [2, 5])):
    found, other = first_values(asked), [point.id for point in qdrant.retrieve("clips", asked)]
    print(f"asked for {asked}: {found}, by qdrant-client {other}")
    assert found == expected, "vectors come in the order of the ids now"
    assert other == [number for number in asked if number < 20]
collection.delete(ids=["c3"])
collection.add(ids=["c3"], embeddings=vectors[3:4])
print("after c3 was deleted and added again:", first_values([3, 7, 11]))
assert sorted(first_values([3, 7, 11])) == [3, 7, 11]
collection.add(ids=["c5"], embeddings=np.full((1, 4), 500, np.float32))
collection.update(ids=["c50"], embeddings=np.full((1, 4), 50, np.float32))
print("c5 after add of another vector:", first_values([5]), "- clips after update of c50:", collection.count())
assert first_values([5]) == [5] and collection.count() == 20
EOF
