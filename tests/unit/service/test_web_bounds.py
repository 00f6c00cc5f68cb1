"""What one request may cost `serve`: packed bytes, space on the disk, places in the queue, time."""

import io
import tracemalloc
import zipfile

import pytest

from simfrcnn.service.web_refusals import Refusal
from simfrcnn.service.web_uploads import Bounds, receive

MB = 10**6


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_that_cannot_be_counted_as_it_inflates_is_refused(tmp_path, kind):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        archive.writestr("a", bytes(128) + b"DICM" + bytes(40 * MB))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            receive(tmp_path, [packed], Bounds(MB, 5))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.status, caught.value.error) == (
        400,
        "a zip file is of an unknown compression",
    )
    assert peak < 2 * MB
    assert list(tmp_path.iterdir()) == []
