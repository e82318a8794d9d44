"""Key points made elsewhere: three formats read to the same joints, and every fault named."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.skeleton import JOINT_NAMES
from demo.lib import checks, keypoint_files
from demo.lib.keypoint_files import BODY_25, read_keypoints
from demo.lib.keypoints import COCO_NAMES, coco_to_h36m

SIZE = (640, 480)
# A standing person, pixels: x of the left of each pair, mirrored about x = 300 for the right.
STANDING = {
    "nose": (300, 100), "eye": (305, 95), "ear": (312, 98), "shoulder": (330, 140), "elbow": (345, 190),
    "wrist": (350, 240), "hip": (320, 250), "knee": (322, 330), "ankle": (324, 400),
}  # fmt: skip


def at(name):
    side, _, part = name.rpartition("_")
    x, y = STANDING[part]
    return (600 - x if side == "right" else x), y


COCO = np.array([at(name) for name in COCO_NAMES], np.float32)
SCORES = np.linspace(0.5, 0.9, 17, dtype=np.float32)
JOINTS, JOINT_SCORES = coco_to_h36m(COCO, SCORES)


def triplets(keypoints=COCO, scores=SCORES):
    return np.concatenate([keypoints, scores[:, None]], axis=1).ravel().tolist()


def entry(image=1, shift=0.0, **changes):
    return {"image_id": image, "category_id": 1, "keypoints": triplets(COCO + shift), "score": 0.9, **changes}


def coco_file(folder, content):
    path = folder / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def body_25(keypoints=COCO, scores=SCORES):
    values = np.zeros((25, 3))
    for row, name in enumerate(COCO_NAMES):
        values[BODY_25.index(name)] = [*keypoints[row], scores[row]]
    return {"person_id": [-1], "pose_keypoints_2d": values.ravel().tolist()}


def openpose_folder(folder, frames):
    for number, people in enumerate(frames):
        content = people if isinstance(people, (str, dict)) else {"version": 1.3, "people": people}
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"film_{number}_keypoints.json").write_text(text)
    return folder


def npz_file(folder, **members):
    path = folder / "points.npz"
    content = {"keypoints": JOINTS[None], "format": "h36m17", "image_size": SIZE, **members}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        read_keypoints(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 600
    return message


# The three formats


def assert_standing(found):
    assert found.image_size == SIZE and found.notes == []
    (track,) = found.tracks
    assert track.id == 1 and not track.interpolated.any()
    np.testing.assert_allclose(track.keypoints[0], JOINTS, atol=1e-3)
    np.testing.assert_allclose(track.scores[0], JOINT_SCORES, atol=1e-6)
    assert track.keypoints.dtype == track.scores.dtype == np.float32


def test_all_formats_give_the_same_joints(tmp_path):
    coco = np.concatenate([COCO, SCORES[:, None]], axis=1)
    assert_standing(read_keypoints(coco_file(tmp_path, [entry()]), image_size=SIZE))
    assert_standing(read_keypoints(npz_file(tmp_path, keypoints=coco[None], format="coco17")))
    (tmp_path / "open").mkdir()
    assert_standing(read_keypoints(openpose_folder(tmp_path / "open", [[body_25()]]), image_size=SIZE))
    h36m = np.concatenate([JOINTS, JOINT_SCORES[:, None]], axis=1)
    assert_standing(read_keypoints(npz_file(tmp_path, keypoints=h36m[None])))


def test_body_25_is_openposes_order():
    assert BODY_25[1] == "neck" and BODY_25[8] == "pelvis" and len(set(BODY_25)) == 25
    assert [BODY_25.index(name) for name in COCO_NAMES] == [
        0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11,
    ]  # fmt: skip


def test_people_are_followed_and_gaps_are_marked(tmp_path):
    frames = [entry(7 + frame, shift=2.0 * frame) for frame in (0, 1, 2, 4)]
    frames += [entry(7 + frame, shift=150.0) for frame in range(5)]
    found = read_keypoints(coco_file(tmp_path, frames), image_size=SIZE)
    assert found.frame_count == 5 and found.fps is None
    walker, other = found.tracks
    assert (walker.id, other.id) == (1, 2)
    assert walker.frames.tolist() == [0, 1, 2, 3, 4]
    assert walker.interpolated.tolist() == [False, False, False, True, False]
    np.testing.assert_allclose(walker.keypoints[:, 0], JOINTS[0] + 2 * np.arange(5)[:, None], atol=1e-3)
    assert not other.interpolated.any()


@pytest.mark.parametrize(
    ("ids", "frames"),
    [
        ([12, 10, 11], [2, 0, 1]),
        ([139, 581781, 285], [0, 2, 1]),
        ([-581781, -139, -285], [0, 2, 1]),
        (["img10.jpg", "img9.jpg", "img1.jpg"], [2, 1, 0]),
        (["b", 7, "a"], [2, 0, 1]),
    ],
)
def test_image_ids_give_the_order_of_frames(tmp_path, ids, frames):
    path = coco_file(tmp_path, [entry(image, 5.0 * frame) for image, frame in zip(ids, frames, strict=True)])
    found = read_keypoints(path, image_size=SIZE)
    assert found.frame_count == 3
    assert np.concatenate([track.frames for track in found.tracks]).tolist() == [0, 1, 2]
    places = np.concatenate([track.keypoints[:, 0, 0] for track in found.tracks])
    np.testing.assert_allclose(places, JOINTS[0, 0] + 5 * np.arange(3), atol=1e-3)


@pytest.mark.parametrize("ids", [(285, 139, 581781), ("b.jpg", "a.jpg", "c.jpg")])
def test_people_are_not_followed_over_unrelated_pictures(tmp_path, ids):
    bad = entry(ids[2], keypoints=triplets(scores=SCORES * 0))
    found = read_keypoints(
        coco_file(tmp_path, [*(entry(image) for image in ids), entry(ids[0], 100.0), bad]), image_size=SIZE
    )
    assert [track.id for track in found.tracks] == [1, 2, 3, 4]
    assert [track.frames.tolist() for track in found.tracks] == [[0], [1], [1], [2]]
    assert not any(track.interpolated.any() for track in found.tracks)
    for track, shift in zip(found.tracks, (0, 0, 100, 0), strict=True):
        np.testing.assert_allclose(track.keypoints[0], JOINTS + shift, atol=1e-3)
        np.testing.assert_allclose(track.scores[0], JOINT_SCORES, atol=1e-6)
    images, left_out = found.notes
    assert images.endswith(f": 0 = {ids[1]}, 1 = {ids[0]}, 2 = {ids[2]}") and "1 times" in left_out


def test_the_note_on_images_is_bounded_and_fit_for_a_terminal(tmp_path):
    names = ["0\x1b[31m", *(f"{number} " + "x" * 1000 for number in range(1, 50))]
    found = read_keypoints(coco_file(tmp_path, [entry(name) for name in names]), image_size=SIZE)
    (note,) = found.notes
    assert found.frame_count == 50 and len(note) < 3000 and note.isprintable()
    assert "19 = 19 x" in note and "20 = " not in note and "30 more" in note


def test_integers_that_number_frames_need_no_note(tmp_path):
    found = read_keypoints(coco_file(tmp_path, [entry(5), entry(7)]), image_size=SIZE)
    assert found.notes == [] and [track.frames.tolist() for track in found.tracks] == [[0, 1, 2]]


def test_openpose_files_are_sorted_by_number_and_may_be_empty(tmp_path):
    frames = [[body_25(COCO + 3.0 * frame)] for frame in range(12)]
    frames[0] = frames[5] = []
    found = read_keypoints(openpose_folder(tmp_path, frames), image_size=SIZE)
    (track,) = found.tracks
    assert found.frame_count == 12 and track.frames.tolist() == list(range(1, 12))
    np.testing.assert_allclose(track.keypoints[:, 0, 0], JOINTS[0, 0] + 3 * np.arange(1, 12), atol=1e-3)


def test_npz_keeps_its_people_and_where_they_are_absent(tmp_path):
    points = np.zeros((2, 4, 17, 3))
    points[..., :2], points[..., 2] = JOINTS, 0.5
    points[1, [0, 2]] = 0
    found = read_keypoints(npz_file(tmp_path, keypoints=points, fps=12.5))
    assert found.fps == 12.5 and found.frame_count == 4 and found.notes == []
    assert [track.id for track in found.tracks] == [1, 2]
    assert found.tracks[1].frames.tolist() == [1, 3]


def test_the_rate_of_frames_is_the_files_or_the_users(tmp_path):
    assert read_keypoints(coco_file(tmp_path, [entry()]), image_size=SIZE, fps=24.0).fps == 24
    assert read_keypoints(npz_file(tmp_path, fps=12.5), fps=24.0).fps == 12.5
    assert read_keypoints(npz_file(tmp_path)).fps is None


def test_nobody_is_no_fault(tmp_path):
    assert read_keypoints(coco_file(tmp_path, []), image_size=SIZE).tracks == []
    assert read_keypoints(openpose_folder(tmp_path, [[], []]), image_size=SIZE).frame_count == 2
    assert read_keypoints(npz_file(tmp_path, keypoints=np.zeros((0, 17, 2)))).tracks == []


# Missing joints


def test_a_missing_joint_takes_the_place_of_the_nearest_along_the_body(tmp_path):
    keypoints, scores = COCO.copy(), SCORES.copy()
    for name in ("left_wrist", "left_elbow", "right_ankle"):
        keypoints[COCO_NAMES.index(name)] = scores[COCO_NAMES.index(name)] = 0
    found = read_keypoints(openpose_folder(tmp_path, [[body_25(keypoints, scores)]]), image_size=SIZE)
    joints = dict(zip(JOINT_NAMES, found.tracks[0].keypoints[0].tolist(), strict=True))
    sure = dict(zip(JOINT_NAMES, found.tracks[0].scores[0].tolist(), strict=True))
    assert joints["left_wrist"] == joints["left_elbow"] == joints["left_shoulder"] == [330, 140]
    assert joints["right_ankle"] == joints["right_knee"] == [278, 330]
    assert sure["left_wrist"] == sure["left_elbow"] == sure["right_ankle"] == 0 < sure["right_knee"]


def test_a_person_without_hips_is_left_out_with_a_note(tmp_path):
    scores = SCORES.copy()
    scores[[COCO_NAMES.index("left_hip"), COCO_NAMES.index("right_hip")]] = 0
    path = coco_file(tmp_path, [entry(keypoints=triplets(scores=scores)), entry(shift=100.0)])
    found = read_keypoints(path, image_size=SIZE)
    assert len(found.tracks) == 1 and "1 times" in found.notes[0]


def test_entries_of_other_categories_are_left_out_with_a_note(tmp_path):
    path = coco_file(tmp_path, [entry(), {"image_id": 1, "category_id": 18, "keypoints": [1, 2]}])
    found = read_keypoints(path, image_size=SIZE)
    assert len(found.tracks) == 1 and "other categories" in found.notes[0]


NO_SCORES = "it holds no scores: 1 is assumed"


def test_without_scores_points_in_the_very_corner_are_missing(tmp_path):
    points = np.stack([COCO] * 3)[None].repeat(2, axis=0)  # (P, F, 17, 2)
    points[0, 1] = 0  # nobody
    points[0, 2, COCO_NAMES.index("left_wrist")] = 0
    points[0, 2, COCO_NAMES.index("left_ankle")] = 0, 400  # at the picture's edge, but there
    points[1] = 0
    found = read_keypoints(npz_file(tmp_path, keypoints=points, format="coco17"))
    (track,) = found.tracks
    assert found.notes == [NO_SCORES] and found.frame_count == 3 and track.frames.tolist() == [0, 2]
    wrist, elbow, ankle = map(JOINT_NAMES.index, ("left_wrist", "left_elbow", "left_ankle"))
    assert (track.scores[0] == 1).all() and np.flatnonzero(track.scores[1] == 0).tolist() == [wrist]
    assert track.keypoints[1, wrist].tolist() == track.keypoints[1, elbow].tolist()
    assert track.keypoints[1, ankle].tolist() == [0, 400]


def test_scores_are_taken_as_they_are_where_there_are_some(tmp_path):
    points = np.concatenate([JOINTS, JOINT_SCORES[:, None]], axis=1)
    points[JOINT_NAMES.index("left_wrist"), :2] = 0
    found = read_keypoints(npz_file(tmp_path, keypoints=points[None]))
    assert found.notes == []
    np.testing.assert_allclose(found.tracks[0].scores[0], JOINT_SCORES, atol=1e-6)


# Faults


def changed(**changes):
    return [entry(), {**entry(), **changes}]


NUMBERS = triplets()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["JSON"]),
        ("[" * 100_000, ["JSON"]),
        ('[{"image_id": 1,', ["JSON"]),
        ({"images": [], "annotations": []}, ["list", "object"]),
        ([3], ["entry 0", "object"]),
        (changed(image_id=None), ["entry 1", "image_id", "nothing"]),
        (changed(image_id=True), ["entry 1", "image_id"]),
        (changed(keypoints=None), ["entry 1", "keypoints", "51"]),
        (changed(keypoints=NUMBERS[:-3]), ["entry 1", "51", "48"]),
        (changed(keypoints=[*NUMBERS[:-1], None]), ["number 50"]),
        (changed(keypoints=[*NUMBERS[:-1], "7"]), ["number 50"]),
        (changed(keypoints=[float("nan"), *NUMBERS[1:]]), ["entry 1", "number 0", "finite", "nan"]),
        (changed(keypoints=[float("inf"), *NUMBERS[1:]]), ["inf"]),
        (changed(keypoints=[10**400, *NUMBERS[1:]]), ["number 0"]),
        (changed(keypoints=[-1e9, *NUMBERS[1:]]), ["at most"]),
        (changed(score="high"), ["entry 1", "score"]),
        ([entry(keypoints=triplets(COCO / 640))], ["pixels", "normalised"]),
    ],
)
def test_faults_of_coco_files_are_named(tmp_path, content, words):
    message = refusal(coco_file(tmp_path, content), image_size=SIZE)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("{", ["film_1_keypoints.json", "JSON"]),
        ("[]", ["film_1_keypoints.json", "people"]),
        ({"people": 3}, ["film_1_keypoints.json", "people", "list"]),
        ([{"pose_keypoints_2d": [1.0] * 54}], ["person 0", "BODY_25", "75", "54"]),
        ([body_25(), {}], ["person 1", "75"]),
        ([{"pose_keypoints_2d": [float("nan")] * 75}], ["person 0", "nan"]),
    ],
)
def test_faults_of_openpose_files_are_named(tmp_path, frame, words):
    message = refusal(openpose_folder(tmp_path, [[body_25()], frame]), image_size=SIZE)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"keypoints": None}, ["keypoints", "nothing"]),
        ({"keypoints": np.zeros((5, 16, 2))}, ["shape", "(5, 16, 2)"]),
        ({"keypoints": np.zeros((17, 2))}, ["shape", "(17, 2)"]),
        ({"keypoints": np.full((1, 17, 2), "a")}, ["numbers"]),
        ({"keypoints": np.stack([JOINTS, JOINTS * np.nan])}, ["[0, 1]", "finite"]),
        ({"format": None}, ["format", "coco17 or h36m17", "nothing"]),
        ({"format": "body25"}, ["format", "body25"]),
        ({"image_size": None}, ["--image_size"]),
        ({"image_size": (0, 480)}, ["image_size", "[ 0 480]"]),
        ({"image_size": (640, -480)}, ["image_size", "-480"]),
        ({"image_size": (640, 10**9)}, ["image_size", "1000000000"]),
        ({"image_size": 640}, ["image_size", "640"]),
        ({"image_size": (640.5, 480)}, ["image_size", "640.5"]),
        ({"fps": 0}, ["fps", "found 0"]),
        ({"fps": np.nan}, ["fps", "nan"]),
        ({"keypoints": JOINTS[None] / 640}, ["normalised"]),
    ],
)
def test_faults_of_npz_files_are_named(tmp_path, members, words):
    message = refusal(npz_file(tmp_path, **members))
    assert all(word in message for word in words), message


class Trap:
    """What would touch a file, if its pickle were run."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_pickled_code_is_refused_and_not_run(tmp_path):
    trap = np.empty((), object)
    trap[()] = Trap(tmp_path / "ran")
    assert "refused" in refusal(npz_file(tmp_path, keypoints=trap))
    assert not (tmp_path / "ran").exists()


def test_the_size_of_the_image_must_be_known_and_not_contradicted(tmp_path):
    path = coco_file(tmp_path, [entry()])
    assert "--image_size WIDTH HEIGHT" in refusal(path)
    assert "--image_size" in refusal(openpose_folder(tmp_path, [[]]))
    assert "image_size" in refusal(path, image_size=(640, 0))
    message = refusal(npz_file(tmp_path), image_size=(480, 640))
    assert "(640, 480)" in message and "(480, 640)" in message
    assert read_keypoints(npz_file(tmp_path), image_size=SIZE).image_size == SIZE


def test_what_is_too_large_is_refused(tmp_path, monkeypatch):
    path = coco_file(tmp_path, [entry(1), entry(5)])
    monkeypatch.setattr(keypoint_files, "MAX_FRAMES", 4)
    assert "frames: expected at most 4, found 5" in refusal(path, image_size=SIZE)
    assert "found 6" in refusal(openpose_folder(tmp_path, [[]] * 6), image_size=SIZE)
    assert "found 7" in refusal(npz_file(tmp_path, keypoints=JOINTS[None].repeat(7, axis=0)))
    monkeypatch.setattr(keypoint_files, "MAX_PEOPLE", 1)
    assert "entries" in refusal(path, image_size=SIZE)
    monkeypatch.setattr(checks, "MAX_JSON", 100)
    assert "at most 100" in refusal(path, image_size=SIZE)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "points.txt").touch()
    (tmp_path / "folder").mkdir()
    assert ".json" in refusal(tmp_path / "points.txt")
    assert "_keypoints.json" in refusal(tmp_path / "folder", image_size=SIZE)
    for name in ("gone.json", "gone.npz"):
        assert "No such file" in refusal(tmp_path / name, image_size=SIZE)


def test_names_are_sorted_by_their_numbers_however_long():
    long = "9" * 5000
    names = ["img10", "img2", "img007", f"img{long}", "img", "a1"]
    assert sorted(names, key=keypoint_files._natural) == [
        "a1",
        "img",
        "img2",
        "img007",
        "img10",
        f"img{long}",
    ]
