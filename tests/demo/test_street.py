"""Small people seen from above, on the street scene that Debian ships with OpenCV's documentation."""

from itertools import islice
from pathlib import Path

import pytest

from demo.lib.blazepose import CHECKPOINT, DETECTOR, BlazePose
from demo.lib.tracking import Tracker
from demo.lib.video import Video

STREET = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


@pytest.mark.slow
@pytest.mark.skipif(not STREET.is_file(), reason="needs vtest.avi: apt-get install opencv-doc")
@pytest.mark.skipif(not (CHECKPOINT / DETECTOR).is_file(), reason="needs `python -m demo.fetch blazepose`")
def test_five_of_the_six_people_at_frame_300_are_followed():
    detector, tracker = BlazePose(threads=1), Tracker()
    identities: list[int] = []
    with Video(STREET) as video:
        for number, frame in enumerate(islice(video, 301)):
            identities = tracker.update(detector.track(frame), number)
    assert len(set(identities)) >= 5
