"""Training batches, against a loop over samples."""

import numpy as np
import pytest
import torch

from common.batches import Batches
from common.sequences import PoseSet, Sequence
from common.skeleton import LEFT, MIRROR, RIGHT

CPU = torch.device("cpu")
N = 23
INTRINSICS = ((2.0, 2.25, 0.125, 0.5), (2.5, 2.75, -0.25, 0.0625), (3.0, 3.25, 0.375, -0.5))


@pytest.fixture
def poses():
    rng = np.random.default_rng(0)
    sequences = tuple(
        Sequence("S1", "Walking", camera, start, stop, INTRINSICS[camera], image_size=(1000, 1000))
        for camera, (start, stop) in enumerate([(0, 9), (9, 10), (10, N)])
    )
    keypoints = rng.normal(0, 1, (N, 17, 2)).astype(np.float32)
    positions = rng.normal((0, 0, 5), 1, (N, 17, 3)).astype(np.float32)
    return PoseSet(keypoints, positions, sequences)


def make(poses, *, batch_size=8, mirrored=True, seed=1):
    return Batches(poses, batch_size=batch_size, mirrored=mirrored, seed=seed, device=CPU)


def slow_sample(poses, sample):
    """What belongs to one sample, joint by joint: key points, target, depth of the root, intrinsics."""
    row, flipped = sample % N, sample >= N
    keypoints, target = np.zeros((17, 2), np.float32), np.zeros((17, 3), np.float32)
    partner = dict(zip(LEFT + RIGHT, RIGHT + LEFT, strict=True))
    for joint in range(17):
        source = partner.get(joint, joint) if flipped else joint
        keypoints[joint] = poses.keypoints[row, source]
        target[joint] = poses.positions[row, source] - poses.positions[row, 0]
    (sequence,) = (each for each in poses.sequences if each.start <= row < each.stop)
    fx, fy, cx, cy = sequence.intrinsics
    if flipped:
        keypoints[:, 0] *= -1
        target[:, 0] *= -1
        cx *= -1
    return keypoints, target, poses.positions[row, 0, 2], (fx, fy, cx, cy)


def which(poses, keypoints):
    """For each sample of a batch (B, 1, 17, 2) its number, found by its content."""
    both = np.concatenate([poses.keypoints, poses.keypoints[:, MIRROR] * np.array([-1, 1], np.float32)])
    known = {image.tobytes(): number for number, image in enumerate(both)}
    return [known[image.tobytes()] for image in keypoints[:, 0].numpy()]


def epoch(batches, number=0, first=0):
    return list(batches.epoch(number, first))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b) for pair in zip(left, right, strict=True) for a, b in zip(*pair, strict=True)
    )


def test_gather_is_what_a_loop_over_the_samples_gives(poses):
    samples = torch.tensor([0, 22, 23, 45, 7, 30, 7, 7 + N, 9, 9 + N, 8, 10])
    batch = make(poses).gather(samples)
    assert batch.keypoints.shape == (12, 1, 17, 2) and batch.target.shape == (12, 1, 17, 3)
    assert batch.root_depth.shape == (12, 1) and batch.intrinsics.shape == (12, 4)
    assert all(tensor.dtype == torch.float32 for tensor in batch)
    for index, sample in enumerate(samples.tolist()):
        keypoints, target, depth, intrinsics = slow_sample(poses, sample)
        np.testing.assert_array_equal(batch.keypoints[index, 0].numpy(), keypoints)
        np.testing.assert_array_equal(batch.target[index, 0].numpy(), target)
        assert batch.root_depth[index].item() == depth
        assert tuple(batch.intrinsics[index].tolist()) == intrinsics


def test_a_sample_is_what_its_own_camera_sees(poses):
    """Mirrored or not, the pinhole of the batch's intrinsics puts the pose where the key points are."""
    for sequence in poses.sequences:
        rows = slice(sequence.start, sequence.stop)
        fx, fy, cx, cy = sequence.intrinsics
        positions = poses.positions[rows]
        poses.keypoints[rows] = positions[..., :2] / positions[..., 2:] * (fx, fy) + (cx, cy)
    for batch in make(poses).epoch(0):
        depth = batch.target[:, 0, :, 2:] + batch.root_depth[:, None]  # (B, 17, 1)
        centre = batch.keypoints[:, 0, :1] - batch.intrinsics[:, None, 2:]  # (B, 1, 2)
        root = centre * batch.root_depth[:, None] / batch.intrinsics[:, None, :2]  # (B, 1, 2)
        plane = (batch.target[:, 0, :, :2] + root) / depth  # (B, 17, 2)
        seen = plane * batch.intrinsics[:, None, :2] + batch.intrinsics[:, None, 2:]
        torch.testing.assert_close(seen, batch.keypoints[:, 0], rtol=0, atol=1e-4)


def test_targets_are_relative_to_the_root(poses):
    for batch in make(poses).epoch(3):
        assert torch.all(batch.target[:, :, 0] == 0)
        assert batch.target.abs().max() < 8, "nobody is five metres from the own pelvis"
        assert torch.all(batch.root_depth > 0)


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("batch_size", [1, 8, 23, 46, 100])
def test_an_epoch_has_every_sample_once(poses, mirrored, batch_size):
    batches = make(poses, batch_size=batch_size, mirrored=mirrored)
    given = epoch(batches, 2)
    samples = [number for batch in given for number in which(poses, batch.keypoints)]
    total = 2 * N if mirrored else N
    assert sorted(samples) == list(range(total)) and batches.samples == total
    sizes = [len(batch.keypoints) for batch in given]
    assert len(batches) == len(sizes)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sizes[-1] == (total - 1) % batch_size + 1, "the last one is smaller and is not left out"


def test_samples_go_with_their_own_targets(poses):
    for batch in make(poses).epoch(0):
        for index, sample in enumerate(which(poses, batch.keypoints)):
            _, target, depth, intrinsics = slow_sample(poses, sample)
            np.testing.assert_array_equal(batch.target[index, 0].numpy(), target)
            assert batch.root_depth[index].item() == depth
            assert tuple(batch.intrinsics[index].tolist()) == intrinsics


def test_mirror_images_are_mixed_with_the_poses(poses):
    first = which(poses, epoch(make(poses, batch_size=N))[0].keypoints)
    assert 4 < sum(sample >= N for sample in first) < N - 4


def test_the_order_follows_from_seed_and_epoch_alone(poses):
    every = {(seed, number): make(poses, seed=seed).order(number) for seed in range(3) for number in range(4)}
    assert len({tuple(order.tolist()) for order in every.values()}) == len(every)
    batches = make(poses)
    later, first = epoch(batches, 5), epoch(batches, 0)
    torch.manual_seed(3)
    np.random.seed(3)
    assert same(epoch(make(poses), 0), first), "whatever was drawn before"
    assert same(epoch(make(poses), 5), later)
    assert not same(first, later)


@pytest.mark.parametrize("first", [0, 1, 3, 5])
def test_an_epoch_goes_on_from_the_middle_with_the_batches_that_were_left(poses, first):
    whole = epoch(make(poses), 4)
    assert same(epoch(make(poses), 4, first), whole[first:])


def test_an_epoch_that_was_over_gives_nothing_more(poses):
    batches = make(poses)
    assert epoch(batches, 4, len(batches)) == []


def test_batches_are_copies_and_the_poses_stay_as_they_are(poses):
    keypoints, positions = poses.keypoints.copy(), poses.positions.copy()
    for batch in make(poses).epoch(0):
        for tensor in batch:
            tensor.fill_(7)
    np.testing.assert_array_equal(poses.keypoints, keypoints)
    np.testing.assert_array_equal(poses.positions, positions)


# Several processes, and augmentation


def place(monkeypatch, rank, world):
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
    for name, value in {**values, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))


def shifted(batch, generator, rows):
    """Key points off by chance, and by as much as their row's number."""
    off = torch.rand(batch.keypoints.shape, generator=generator) + rows[:, None, None, None]
    return batch._replace(keypoints=batch.keypoints + off)


def augmented(poses, **keywords):
    keywords = {"batch_size": 9, "mirrored": True, "seed": 1, "device": CPU, "augment": shifted} | keywords
    return Batches(poses, **keywords)


@pytest.mark.parametrize("augment", [None, shifted])
@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_processes_are_the_batches_of_one(poses, monkeypatch, world, augment):
    batches = augmented(poses, augment=augment)  # 2 x 23 samples: a last batch of one
    whole = epoch(batches, 1)
    assert len(whole[-1].keypoints) == 1
    shares = []
    for rank in range(world):
        place(monkeypatch, rank, world)
        shares.append(epoch(batches, 1))
    for number, batch in enumerate(whole[:-1]):
        parts = [share[number] for share in shares]
        assert same([type(batch)(*map(torch.cat, zip(*parts, strict=True)))], [batch])
    assert all(same([share[-1]], [whole[-1]]) for share in shares), "nobody is left without a sample"
    assert same([batches.whole(1, 2)], [whole[2]])
    assert [batches.size(number) for number in range(len(batches))] == [9] * 5 + [1]


def test_an_augmentation_sees_rows_and_all_of_its_chance_comes_from_seed_epoch_and_number(poses):
    batches = augmented(poses)
    torch.manual_seed(3)
    first = epoch(batches, 1)
    assert same(epoch(augmented(poses), 1, 2), first[2:]), "in the middle as from the start"
    drawn = set()
    for seed, number in ((1, 1), (2, 1), (1, 2)):
        order, batch = (
            augmented(poses, seed=seed).order(number),
            epoch(augmented(poses, seed=seed), number)[0],
        )
        plain = make(poses, seed=seed, batch_size=9).gather(order[:9])
        off = (batch.keypoints - plain.keypoints)[:, 0]  # (B, 17, 2)
        flipped = order[:9] >= N
        off[flipped] = off[flipped][:, MIRROR] * torch.tensor([-1, 1])  # it came before the mirror
        rows = (order[:9] % N)[:, None, None]
        assert torch.all((off > rows - 1e-4) & (off < rows + 1 + 1e-4))
        drawn.add(round(float((off - rows).sum()), 3))
    assert len(drawn) == 3
