"""Keypoints of other tools: every format gives the same joints, with the file's frames and IDs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from common.console import UserError
from common.skeleton import COCO17, H36M17, MIRROR
from demo.lib import keypoint_files
from demo.lib.keypoint_files import read_keypoints
from demo.lib.keypoints import COCO_IN, ORDERS, coco_to_h36m, fill_missing

DATA = Path(__file__).parents[1] / "data"
SIZE = (640, 480)
FRAMES = 12
# A standing person, pixels: x of the left of each pair, mirrored about x = 300 for the right.
STANDING = {
    "nose": (300, 100), "eye": (305, 95), "ear": (312, 98), "shoulder": (330, 140), "elbow": (345, 190),
    "wrist": (350, 240), "hip": (320, 250), "knee": (322, 330), "ankle": (324, 400),
}  # fmt: skip
COCO = np.array([STANDING[name.split("_")[-1]] for name in COCO17.joints], float)
COCO[2::2, 0] = 600 - COCO[2::2, 0]
SCORES = np.linspace(0.5, 0.9, 17)
WALK = COCO + np.arange(FRAMES)[:, None, None] * [2.0, 0.0]  # (F, 17, 2), to the right
JOINTS, JOINT_SCORES = coco_to_h36m(WALK, np.tile(SCORES, (FRAMES, 1)))


def moved(x):
    return COCO + np.array([x, 0])


def triplets(points=COCO, order="coco17"):
    """(J, 3) x, y and score in an order of joints; those that COCO lacks are not found."""
    values = np.zeros((ORDERS[order], 3))
    values[COCO_IN[order], :2], values[COCO_IN[order], 2] = points, SCORES
    return values


def coco(image=0, points=COCO, order="coco17", **more):
    return {
        "image_id": image,
        "category_id": 1,
        "keypoints": triplets(points, order).ravel().tolist(),
        **more,
    }


def openpose(points=COCO, order="body25"):
    return {"people": [{"person_id": [-1], "pose_keypoints_2d": triplets(points, order).ravel().tolist()}]}


def landmarks(points, width=1, height=1):
    keys = ("x", "y", "visibility")
    values = triplets(points, "mediapipe33") / [width, height, 1]
    return [{**dict(zip(keys, joint, strict=True)), "z": -0.1} for joint in values.tolist()]


def boxed(points, width=1, height=1):
    x, y = (points / [width, height]).T.tolist()
    return {"box": {}, "keypoints": {"x": x, "y": y, "visible": SCORES.tolist()}}


def instance(points):
    return {"keypoints": points.tolist(), "keypoint_scores": SCORES.tolist(), "bbox_score": 0.9}


def read(path, content, **options):
    """Reads JSON, or a folder of JSON by the files' names, or the members of an npz file."""
    if path.suffix == ".json":
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    elif path.suffix == ".npz":
        np.savez(path, **content)
    else:
        path.mkdir()
        for name, each in content.items():
            (path / name).write_text(each if isinstance(each, str) else json.dumps(each))
    return read_keypoints(path, **{"image_size": SIZE, **options})


def frames_of(result):
    return [track.frames.tolist() for track in result.tracks]


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


# Joints


def test_coco_to_h36m_matches_published_code():
    fixture = json.loads((DATA / "coco_to_h36m.json").read_text())
    joints, scores = coco_to_h36m(np.float32(fixture["coco"]), np.float32(fixture["coco_scores"]))
    np.testing.assert_allclose(joints, fixture["h36m"], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(scores, fixture["h36m_scores"], rtol=1e-5)
    assert joints.dtype == scores.dtype == np.float32


def test_coco_to_h36m_commutes_with_mirror_scale_and_shift():
    points, scores = np.random.default_rng(0).uniform(0, 800, (2, 3, 17, 2)), np.ones((2, 3, 17))
    swapped = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    joints, _ = coco_to_h36m(points, scores)
    mirrored, _ = coco_to_h36m(points[..., swapped, :] * [-3, 3] + 50, scores)
    np.testing.assert_allclose(mirrored, joints[..., MIRROR, :] * [-3, 3] + 50, rtol=1e-9)


def test_fill_missing_takes_nearest_joint_along_body():
    scores = SCORES.copy()
    missing = COCO17.indices(("left_wrist", "left_elbow", "right_ankle", "left_ear", "left_eye"))
    scores[missing] = 0
    filled, liftable = fill_missing(COCO, scores, COCO17)
    nearest = COCO17.indices(("left_shoulder", "left_shoulder", "right_knee", "nose", "nose"))
    np.testing.assert_array_equal(filled[missing], COCO[nearest])
    assert liftable
    scores[COCO17.indices(("left_hip", "right_hip"))] = 0
    assert not fill_missing(COCO, scores, COCO17)[1]


# Formats

JSON = {
    **{order: [coco(f, p, order) for f, p in enumerate(WALK)] for order in COCO_IN},
    "alphapose": [coco(f"{f}.jpg", p, score=3.01, idx=[0.0]) for f, p in enumerate(WALK)],
    "alphapose-open": {f"{f}.jpg": openpose(p, "coco18") for f, p in enumerate(WALK)},
    "mmpose": {"instance_info": [{"frame_id": f, "instances": [instance(p)]} for f, p in enumerate(WALK)]},
    "mmpose-inferencer": [{"frame_id": f, "instances": [instance(p)]} for f, p in enumerate(WALK)],
    "ultralytics": [[boxed(p)] for p in WALK],
    "ultralytics-normalized": [[boxed(p, *SIZE)] for p in WALK],
    "mediapipe": [landmarks(p) for p in WALK],
    "mediapipe-normalized": [{"landmarks": [landmarks(p, *SIZE)]} for p in WALK],
}
SCORED = np.stack([triplets(p) for p in WALK])
DETECTRON = np.empty((FRAMES, 2), object)
for number, values in enumerate(SCORED):
    DETECTRON[number, 0], DETECTRON[number, 1] = [], np.insert(values.T, 2, 0, axis=0)[None]
METADATA = {"layout_name": "coco", "video_metadata": {"walk.mp4": {"w": 640, "h": 480, "fps": 50}}}
NPZ = {
    "npz": {"keypoints": SCORED[None], "format": "coco17"},
    "h36m": {"keypoints": np.dstack([JOINTS, JOINT_SCORES]), "format": "h36m17"},
    "rtmlib": {"keypoints": WALK[:, None], "scores": np.tile(SCORES, (FRAMES, 1, 1))},
    "detectron2": {"keypoints": DETECTRON, "segments": 0, "metadata": np.array({"w": 640, "h": 480}, object)},
    "half-unscored": {"keypoints": WALK.astype(np.float16), "format": "coco17"},
    "mhformer-unscored": {"reconstruction": JOINTS[None]},
    "videopose3d-unscored": {
        "positions_2d": np.array({"walk.mp4": {"custom": [WALK]}}, object),
        "metadata": np.array(METADATA, object),
    },
}
OPENPOSE = {
    order: {f"film_{f:012d}_keypoints.json": openpose(p, order) for f, p in enumerate(WALK)}
    for order in ("body25", "coco18")
}


@pytest.mark.parametrize(
    "suffix, name", [(s, n) for s, c in ((".json", JSON), (".npz", NPZ), ("", OPENPOSE)) for n in c]
)
def test_format_gives_the_joints(tmp_path, suffix, name):
    result = read(tmp_path / f"a{suffix}", {".json": JSON, ".npz": NPZ, "": OPENPOSE}[suffix][name])
    (track,) = result.tracks
    assert result.image_size == SIZE and result.frame_count == FRAMES
    assert track.frames.tolist() == list(range(FRAMES)) and not track.interpolated.any()
    np.testing.assert_allclose(track.keypoints, JOINTS, atol=1e-3)
    unscored = name.endswith("-unscored")
    np.testing.assert_allclose(track.scores, 1 if unscored else JOINT_SCORES, atol=1e-6)
    assert track.keypoints.dtype == track.scores.dtype == np.float32
    assert ("no scores" in result.notes["2D pose"]) is unscored
    assert result.fps == (50 if "videopose3d" in name else None)


def test_ragged_people_of_rtmlib_are_followed(tmp_path):
    keypoints = objects([np.stack([p, p - [150, 0]][: 1 + (f > 0)]) for f, p in enumerate(WALK)])
    scores = objects([np.full((1 + (f > 0), 17), 0.8) for f in range(FRAMES)])
    result = read(tmp_path / "a.npz", {"keypoints": keypoints, "scores": scores})
    assert frames_of(result) == [list(range(FRAMES)), list(range(1, FRAMES))]


def test_order_of_a_plain_array_is_named_or_known_by_its_length(tmp_path):
    np.save(tmp_path / "h36m.npy", JOINTS)
    np.save(tmp_path / "mediapipe.npy", [triplets(COCO, "mediapipe33")[:, [0, 1, 2, 2]] / [*SIZE, 1, 1]])
    for name, order in (("h36m", "h36m17"), ("mediapipe", None)):
        result = read_keypoints(tmp_path / f"{name}.npy", image_size=SIZE, format=order)
        np.testing.assert_allclose(result.tracks[0].keypoints[0], JOINTS[0], atol=1e-3)


def test_several_videos_are_refused_or_one_is_chosen(tmp_path):
    videos = {"a": {"w": 640, "h": 480}, "b": {"w": 640, "h": 480}}
    positions = {"a": {"custom": [JOINTS]}, "b": {"custom": [JOINTS[:5]]}}
    metadata = {"layout_name": "h36m", "video_metadata": videos}
    members = {"positions_2d": np.array(positions, object), "metadata": np.array(metadata, object)}
    files = {f"{name}_{f:012d}_keypoints.json": openpose(WALK[f]) for name in "ab" for f in range(5)}
    for path, content in ((tmp_path / "two", files), (tmp_path / "two.npz", members)):
        with pytest.raises(UserError, match="one video, found a, b"):
            read(path, content)
        assert read_keypoints(path / "b", image_size=SIZE).frame_count == 5


# Frames and people


def test_frame_numbers_are_those_of_the_file(tmp_path):
    result = read(tmp_path / "a.json", [coco(50 + f, p) for f, p in enumerate(WALK)], fps=50)
    assert frames_of(result) == [list(range(50, 50 + FRAMES))]
    assert result.times(result.tracks[0])[0] == 1.0


def test_ids_of_the_file_are_kept(tmp_path):
    x = 200 - np.abs(
        np.linspace(-200, 200, 40)
    )  # two people who walk towards each other, turn round each other
    people = ((7, -200, 1), (3, 200, -1))
    entries = [coco(f, moved(start + way * x[f]), track_id=i) for f in range(40) for i, start, way in people]
    result = read(tmp_path / "a.json", entries)
    assert [track.id for track in result.tracks] == [3, 7]
    np.testing.assert_allclose(result.tracks[1].keypoints[:, 0, 0], 100 + x, atol=1e-3)


def test_ids_that_repeat_in_a_frame_are_not_used(tmp_path):
    result = read(tmp_path / "a.json", [coco(f, moved(x), idx=[0.0]) for f in range(5) for x in (-150, 150)])
    assert [track.id for track in result.tracks] == [1, 2] and frames_of(result) == [list(range(5))] * 2


def test_missing_file_is_a_gap_but_a_frame_without_people_is_interpolated(tmp_path):
    files = {f"v_{f:012d}_keypoints.json": openpose(WALK[f]) for f in range(FRAMES) if f not in (4, 5, 6)}
    files |= {"v_000000000009_keypoints.json": {"people": []}, "._v_000000000000_keypoints.json": "Mac OS X"}
    (track,) = read(tmp_path / "a", files).tracks
    assert track.frames.tolist() == [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert track.frames[track.interpolated].tolist() == [9]
    np.testing.assert_allclose(track.keypoints, JOINTS[track.frames], atol=1e-3)


@pytest.mark.parametrize(
    "names", [("alice", "bob", "cy"), (139, 285, 581781), ("img2.jpg", "img10.jpg", "x.jpg")]
)
def test_unrelated_images_are_no_video(tmp_path, names):
    result = read(tmp_path / "a.json", [*map(coco, names[::-1]), coco(names[0], moved(90))])
    assert sorted(frames_of(result)) == [[0], [0], [1], [2]]
    assert [track.id for track in result.tracks] == [1, 2, 3, 4]
    assert f"{names[0]}, {names[1]}, {names[2]}" in result.notes["2D pose"]


def test_people_of_npz_keep_their_place_and_absences(tmp_path):
    points = np.tile(triplets(), (2, 4, 1, 1))
    points[1, [0, 2]] = 0
    result = read(tmp_path / "a.npz", {"keypoints": points, "format": "coco17", "fps": 12.5})
    assert frames_of(result) == [[0, 1, 2, 3], [1, 3]] and result.fps == 12.5


@pytest.mark.parametrize("value", [None, float("nan")])
def test_single_invalid_number_is_a_joint_not_found(tmp_path, value):
    entry = coco()
    entry["keypoints"][3 * COCO17.joints.index("left_wrist")] = value
    (track,) = read(tmp_path / "a.json", [entry]).tracks
    wrist, elbow = H36M17.indices(("left_wrist", "left_elbow"))
    assert np.flatnonzero(track.scores[0] == 0).tolist() == [wrist]
    np.testing.assert_array_equal(track.keypoints[0, wrist], track.keypoints[0, elbow])


def test_left_out_people_are_noted_and_nobody_is_no_error(tmp_path):
    half, other = coco(1), {"image_id": 2, "category_id": 18, "keypoints": [1]}
    half["keypoints"][3 * 11 + 2] = half["keypoints"][3 * 12 + 2] = 0  # hips
    result = read(tmp_path / "a.json", [coco(0), half, other])
    assert frames_of(result) == [[0]]
    assert "1 times" in result.notes["2D pose"] and "other categories" in result.notes["2D pose"]
    assert read(tmp_path / "b.json", []).tracks == []
    assert read(tmp_path / "c", {"v_0.json": {"people": []}}).frame_count == 1
    assert read(tmp_path / "d.npz", {"keypoints": np.zeros((0, 17, 2)), "format": "coco17"}).tracks == []


# Invalid files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "expected JSON"),
        ({"images": []}, "found the keys images"),
        ([coco(0), {"image_id": 1}], "frame 1: expected keypoints"),
        ([coco(0), {"image_id": 1, "keypoints": [1.0] * 48}], r"found \(24, 2\)"),
        ([coco(0), {"image_id": 1, "keypoints": ["a"] * 51}], "frame 1: expected"),
        ([coco(0, COCO * 1e6)], "frame 0, joint 0: expected finite numbers"),
        ([coco(0, COCO / 400)], "expected pixels, found normalised"),
        ([coco(0, (COCO - [0, 100]) / 130)], "expected pixels, found normalised"),  # legs far below the image
    ],
)
def test_invalid_json_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.json", content)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"keypoints": np.zeros((5, 16, 2))}, r"found \(16, 2\)"),
        ({"keypoints": np.full((1, 17, 2), "a")}, "expected"),
        ({"keypoints": np.where(np.eye(17)[5][:, None], np.inf, COCO)[None]}, "frame 0, joint 5: expected"),
        ({"keypoints": np.array(Trap(), object)}, "could run code"),
        ({"format": "body"}, "format: expected .* found body"),
        ({"image_size": (640.5, 480)}, "image_size: expected"),
        ({"image_size": (480, 640)}, "the file has"),
        ({"fps": 0}, "fps: expected"),
    ],
)
def test_invalid_npz_is_refused(tmp_path, monkeypatch, members, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.npz", {"keypoints": COCO[None], "format": "coco17", "image_size": SIZE, **members})
    assert not (tmp_path / "ran").exists()


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.npz")
    (tmp_path / "points.txt").touch()
    for name in ("fifo.npz", "gone.json", "gone.npy", "points.txt", ""):
        with pytest.raises(UserError, match=str(tmp_path / name)):
            read_keypoints(tmp_path / name, image_size=SIZE)
    with pytest.raises(UserError, match="--image_size"):
        read(tmp_path / "a.json", [coco()], image_size=None)
    monkeypatch.setattr(keypoint_files, "MAX_FRAMES", 4)
    with pytest.raises(UserError, match="at most 4 frames, found 6"):
        read(tmp_path / "a.json", [coco(4), coco(5)])
