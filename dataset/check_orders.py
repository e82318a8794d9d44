"""Orders of joints that files are in by mistake, told by name."""

from __future__ import annotations

from common.skeleton import (
    H36M_32_KEPT,
    JOINT_NAMES,
    LEFT_ARM,
    LEFT_LEG,
    MIRROR,
    MPI_INF_3DHP_17_KEPT,
    NUM_JOINTS,
    RIGHT_ARM,
    RIGHT_LEG,
)
from demo.lib.keypoints import COCO_NAMES

COCO = "COCO's 17 key points"

ORDERS: dict[str, tuple[int, ...]] = {
    COCO: tuple(COCO_NAMES.index(name) if name in COCO_NAMES else -1 for name in JOINT_NAMES),
    "the 17 joints of MPI-INF-3DHP's test set": MPI_INF_3DHP_17_KEPT,
    "the first 17 of Human3.6M's 32 joints": tuple(
        slot if slot < NUM_JOINTS else -1 for slot in H36M_32_KEPT
    ),
}
"""By name, the slot that holds each of this project's joints; -1 where none does."""

LIMBS = {"all": (*RIGHT_LEG, *LEFT_LEG, *RIGHT_ARM, *LEFT_ARM), "arms": (*RIGHT_ARM, *LEFT_ARM),
         "legs": (*RIGHT_LEG, *LEFT_LEG)}  # fmt: skip
EXCHANGED: dict[str, tuple[int, ...]] = {
    which: tuple(int(MIRROR[joint]) if joint in joints else joint for joint in range(NUM_JOINTS))
    for which, joints in LIMBS.items()
}
"""Orders in which the left and right joints of all limbs, of the arms or of the legs are exchanged."""
