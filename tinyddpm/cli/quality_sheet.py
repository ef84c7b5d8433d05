"""The contact sheet of ``tinyddpm evaluate --samples``: what the numbers are about."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tinyddpm.data.dataset import ByteArray
from tinyddpm.evaluation.sample_quality import Quality
from tinyddpm.figures.contact_sheet import Block, contact_sheet, paired

COLUMNS = 20


def quality_sheet(quality: Quality, train: ByteArray) -> Image.Image:
    """Return the first samples, the least and the most certain, and those nearest to ``train``."""
    judged, neighbours = quality.judged, quality.samples.neighbours
    images, count = judged.images, len(judged.images)
    columns = min(COLUMNS, count)
    by_confidence = np.argsort(judged.confidence, kind="stable")
    nearest = np.argsort(neighbours.distance, kind="stable")[:columns]
    found = train[neighbours.nearest]
    few = 2 * columns
    blocks = [
        Block(f"The first of {count:,} samples", images[: 4 * columns]),
        Block("The least certain", images[by_confidence[:few]]),
        Block("The most certain", images[by_confidence[::-1][:few]]),
        Block(
            "The first, and below each the nearest training image",
            paired(images[:few], found[:few], columns),
        ),
        Block(
            "The nearest to a training image, and that below",
            paired(images[nearest], found[nearest], columns),
        ),
    ]
    return contact_sheet(blocks, columns=columns)
