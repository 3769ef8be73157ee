"""The pictures in an atlas: thumbnails of probe rows, and held-out images that nothing of the atlas was made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.atlas.tensors import TensorFile
from miclip.errors import BadArtefact

Int32 = NDArray[np.int32]


class Pictures:
    """Encoded pictures, one behind the other in a verified file.

    Args:
        file: With the tensors ``ends`` and ``data``.

    Raises:
        BadArtefact: the pictures do not follow each other, or one has no bytes.
    """

    def __init__(self, file: TensorFile) -> None:
        self._file, self._ends = file, np.asarray(file["ends"])
        self._data: NDArray[np.uint8] = file["data"]
        if (np.diff(self._ends, prepend=0) <= 0).any() or self._ends[-1] != len(self._data):
            raise BadArtefact("The atlas's pictures do not end where their bytes do.")

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._ends)

    def __getitem__(self, place: int) -> bytes:
        """Return an encoded picture, WebP."""
        start = int(self._ends[place - 1]) if place else 0
        return self._data[start : int(self._ends[place])].tobytes()


class Thumbnails(Pictures):
    """Thumbnails of probe rows.

    Raises:
        BadArtefact: the rows do not ascend, or there are no such rows.
    """

    def __init__(self, file: TensorFile, views: int) -> None:
        super().__init__(file)
        rows = np.asarray(file["rows"])
        if (np.diff(rows) <= 0).any() or rows[0] < 0 or rows[-1] >= views:
            raise BadArtefact("The atlas's thumbnails are not of its probe images.")
        self._places = {int(row): place for place, row in enumerate(rows)}

    def of_row(self, row: int) -> bytes | None:
        """Return the thumbnail of a probe row; None where it has none."""
        place = self._places.get(row)
        return None if place is None else self[place]


class HeldOut(Pictures):
    """Images of the probe set that neither the encoders nor the labels nor the statistics of the atlas have used.

    Raises:
        BadArtefact: a label does not exist.
    """

    def __init__(self, file: TensorFile, labels: int) -> None:
        super().__init__(file)
        for name, low in (("predicted", 0), ("shown", -1)):
            values = np.asarray(file[name])
            if values.min() < low or values.max() >= labels:
                raise BadArtefact(f"The labels of the atlas's held-out images lie outside {low} to {labels - 1}.")

    @property
    def predicted(self) -> Int32:
        """Label that the model predicts for every image [n]."""
        return self._file["predicted"]

    @property
    def shown(self) -> Int32:
        """Label that every image shows [n]; -1 where that is not known."""
        return self._file["shown"]

    @property
    def labelled(self) -> bool:
        """Whether it is known of all images what they show."""
        return bool((self.shown >= 0).all())
