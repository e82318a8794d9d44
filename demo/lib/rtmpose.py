"""RTMPose behind RTMDet or YOLOX, from the user's own ONNX files: those of OpenMMLab's deployment SDK.

Jiang et al., "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023. The keypoint network's
file name contains "pose"; the other file is the person finder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.console import UserError
from demo.lib.regions import Boxes, Image, Region, letterbox, suppress
from demo.lib.result import Person

THRESHOLD = 0.4
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
GREY = 114  # border of the letterbox
SIMCC = 2.0  # bins of RTMPose's coordinate classification per pixel
HELP = "put RTMDet-nano (or YOLOX) and RTMPose, as ONNX files of OpenMMLab's SDK, into one folder"


class RTMPose:
    """People by RTMDet or YOLOX with boxes in the graph, and their keypoints by RTMPose.

    Args:
        folder: Folder of the two ONNX files.

    Raises:
        UserError: A file is missing, or its inputs and outputs are others.
    """

    name = "RTMPose"

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.onnx"))
        poses = [path for path in files if "pose" in path.name.lower()]
        finders = [path for path in files if path not in poses]
        if not poses or not finders:
            found = ", ".join(path.name for path in files) or "none"
            raise UserError(f"{folder}: expected a finder and a pose network, found {found}; {HELP}")
        self.finder, self.pose = _Network(finders[0], 1), _Network(poses[0], 2)
        self.normalized = "yolox" not in finders[0].name.lower()  # YOLOX takes 0 to 255

    def __call__(self, image: Image) -> list[Person]:
        """The people in an image (H, W, 3) uint8 RGB, the highest score first."""
        people = []
        for box, score in zip(*self.find(image), strict=True):
            region = Region.of_box(box, self.pose.size[0] / self.pose.size[1])
            crop = region.cut(image, self.pose.size)
            x, y = self.pose((crop - MEAN) / DEVIATION)[:2]  # (1, J, 2 W), (1, J, 2 H)
            points = np.stack([x[0].argmax(axis=-1), y[0].argmax(axis=-1)], axis=-1)[:17] / SIMCC
            scores = np.minimum(x[0].max(axis=-1), y[0].max(axis=-1))[:17].clip(0, 1)
            points = region.to_image(points, self.pose.size)
            people.append(Person(points.astype(np.float32), scores.astype(np.float32), box, float(score)))
        return people

    def find(self, image: Image) -> Boxes:
        """Boxes of the people: output (1, N, 5), x, y, x, y, score, and labels (1, N) where 0 is a person."""
        square, region = letterbox(image, self.finder.size, GREY)
        x = square[..., ::-1].astype(np.float32)  # BGR
        outputs = self.finder((x - MEAN[::-1]) / DEVIATION[::-1] if self.normalized else x)
        rows = outputs[0][0]
        kept = rows[:, 4] >= THRESHOLD
        if len(outputs) > 1:
            kept &= outputs[1].reshape(-1) == 0
        corners = region.to_image(rows[kept, :4].reshape(-1, 2, 2), self.finder.size)
        return suppress(corners.clip(0, image.shape[1::-1]).reshape(-1, 4), rows[kept, 4])


class _Network:
    def __init__(self, path: Path, outputs: int) -> None:
        import onnxruntime

        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            self.input = self.session.get_inputs()[0]
            _, _, height, width = self.input.shape
            self.size = int(width), int(height)
            if len(self.session.get_outputs()) < outputs:
                raise ValueError(f"found {len(self.session.get_outputs())} outputs")
        except Exception as error:  # a damaged file can make the runtime fail in any way
            raise UserError(f"{path}: expected an ONNX file of OpenMMLab's SDK ({error}); {HELP}") from error

    def __call__(self, image: NDArray[np.float32]) -> list[Any]:
        batch = image.transpose(2, 0, 1)[None]  # (H, W, C) -> (1, C, H, W)
        return self.session.run(None, {self.input.name: batch})
