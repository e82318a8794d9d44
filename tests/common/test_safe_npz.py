"""The reader of npz files: reads what the field writes, refuses everything else, and never runs it."""

import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib import format as npy_format

from common import safe_npz, safe_pickle
from common.errors import DataError
from common.safe_npz import UnsafeFileError, npz_fingerprint, read_npz

ROOT = Path(__file__).parents[2]
HEADER = {"descr": "|O", "fortran_order": False, "shape": ()}


def member(content: bytes, **header) -> bytes:
    """An .npy file; the header is that of a pickled 0-d object array unless it is given."""
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {**HEADER, **header})
    return file.getvalue() + content


def pickled(value, protocol: int) -> bytes:
    holder = np.empty((), dtype=object)
    holder[()] = value
    return member(pickle.dumps(holder, protocol))


def zipped(path: Path, method: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)
    return path


def refusal(path: Path, words: str = "") -> str:
    """The message with which the file is refused, after a look at what all messages share."""
    with pytest.raises(UnsafeFileError) as caught:
        read_npz(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 600
    assert words in message
    return message


def assert_same(found, expected) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        # Numpy turns most pickled arrays to the machine's own byte order.
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


# Pickle instructions by hand


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def data(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def dtype(code: str, state: bytes = b"NNN", order: str = "<") -> bytes:
    made = name("numpy", "dtype") + text(code) + b"\x89\x88\x87R"
    return made + b"(K\x03" + text(order) + state + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


RECONSTRUCT, SCALAR = (name("numpy.core.multiarray", function) for function in ("_reconstruct", "scalar"))
NDARRAY = name("numpy", "ndarray")
EMPTY = RECONSTRUCT + NDARRAY + b"K\x00\x85" + data(b"b") + b"\x87R"


def array(shape: bytes, element: bytes, content: bytes) -> bytes:
    return EMPTY + b"(K\x01" + shape + element + b"\x89" + content + b"tb"


def held(inner: bytes) -> bytes:
    """The pickle of a 0-d object array around the instructions for one object."""
    return b"\x80\x04" + array(b")", dtype("O8", order="|"), b"]" + inner + b"a") + b"."


# What is read

POSES = np.arange(2 * 17 * 3, dtype=np.float32).reshape(2, 17, 3)
SUBJECTS = {
    "S1": {"Walking": POSES, "Walking 1": POSES[:0], "Eating": np.asfortranarray(POSES)},
    "S9": {"Posing": [POSES[..., :2], POSES.transpose(2, 0, 1), POSES.astype(">f8")], "Ä": [POSES > 5]},
}
METADATA = {
    "layout_name": "h36m",
    "num_joints": 17,
    "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    "fps": 50.0,
    "numbers": (-1, 300, 70_000, -(2**40), 2**62, True, False, None, b"", b"raw"),
    "scalars": [np.float32(1.5), np.int64(-3), np.str_("né"), np.bool_(True)],
    "arrays": [np.array("text"), np.array(2.0)],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_layout_of_the_field_in_every_protocol(tmp_path, protocol, core):
    contents = {"positions_2d": pickled(SUBJECTS, protocol), "metadata": pickled(METADATA, protocol)}
    if protocol < 4:  # Here names are lines, whatever their length.
        contents = {key: value.replace(b"numpy._core", core) for key, value in contents.items()}
    found = read_npz(zipped(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, **contents))
    assert_same(found, {"positions_2d": SUBJECTS, "metadata": METADATA})
    assert found["positions_2d"]["S1"]["Walking"].flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves(tmp_path, save):
    arrays = {
        "plain": POSES,
        "fortran": np.asfortranarray(POSES),
        "swapped": POSES.astype(">i4"),
        "empty": POSES[:0],
        "names": np.array(["S1", "S11"]),
        "zero_d": np.array(3.5),
        "object": np.array(SUBJECTS, dtype=object),
    }
    save(tmp_path / "a.npz", **arrays)
    assert_same(read_npz(tmp_path / "a.npz"), {**arrays, "object": SUBJECTS})


def test_python_2_pickle_by_hand(tmp_path):
    """Text and array data are both byte strings there, the version is 2 and integers may be long."""

    def string(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    empty = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
    long_two = b"\x8a\x01\x02"
    float_type = b"cnumpy\ndtype\n" + string(b"f4") + b"K\x00K\x01\x87R(K\x03" + string(b"<")
    float_type += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    payload = string(np.array([1.5, -2.0], "<f4").tobytes())
    poses = empty + b"(K\x01" + long_two + b"\x85" + float_type + b"\x89" + payload + b"tb"
    object_type = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K?tb"
    inner = b"}q\x01(" + string(b"S1") + poses + string(b"caf\xe9") + b"T\x02\x00\x00\x00\xe9!"
    inner += string(b"clock") + b"I1099511627776\nu"
    outer = b"\x80\x02" + empty + b"(K\x01)" + object_type + b"\x89]" + inner + b"atb."
    found = read_npz(zipped(tmp_path / "a.npz", poses=member(outer)))["poses"]
    assert_same(found, {"S1": np.array([1.5, -2.0], np.float32), "café": "é!", "clock": 2**40})


PLAIN_TYPES = st.one_of(
    *(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes(), hnp.complex_number_dtypes()),
    *(hnp.unicode_string_dtypes(min_len=1), hnp.byte_string_dtypes(min_len=1)),
)
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)),
    *(st.text(), st.binary()),
    PLAIN_TYPES.flatmap(lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))),
)
KEYS = st.one_of(st.text(), st.integers(0, 99))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner)),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(value=VALUES, protocol=st.integers(2, 5))
def test_any_value_of_plain_parts_comes_back(tmp_path_factory, value, protocol):
    path = zipped(tmp_path_factory.getbasetemp() / "value.npz", value=pickled(value, protocol))
    assert_same(read_npz(path)["value"], value)


# What would run code


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("refused", ["system", "eval", "mkdir", "open"])
def test_calls_are_refused_by_name_and_not_made(tmp_path, refused, protocol):
    marker = tmp_path / "marker"
    call = {
        "system": Call(os.system, f'echo > "{marker}"'),
        "eval": Call(eval, f"open({str(marker)!r}, 'w').close()"),
        "mkdir": Call(os.mkdir, str(marker)),
        "open": Call(open, str(marker), "w"),
    }[refused]
    path = zipped(tmp_path / "a.npz", poses=pickled({"S1": [POSES, call]}, protocol))
    message = refusal(path, "member poses: refused ")
    assert f".{refused}: " in message and "nothing was run" in message
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as archive:
        archive["poses"]
    assert marker.exists(), "the payload is meant to work where pickles are trusted"


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (b"(X\x01\x00\x00\x00xiposix\nsystem\n", "refused posix.system"),
        (name("numpy", "load"), "refused numpy.load"),
        (name("numpy.core.multiarray", "fromfile"), "refused numpy.core.multiarray.fromfile"),
        (name("_codecs", "lookup"), "refused _codecs.lookup"),
        (name("collections", "OrderedDict") + b")R", "refused collections.OrderedDict"),
        (name("builtins", "getattr"), "refused builtins.getattr"),
        (name("x\x1b[2J", "y"), "refused 'x\\x1b[2J.y'"),
        (name("numpy", "dtype.__class__"), "refused numpy.dtype.__class__"),
        (name("numpy", "ndarray") + b")R", "refused a call of numpy.ndarray"),
        (name("numpy", "ndarray") + b")\x81", "instruction NEWOBJ"),
        (b"(" + name("numpy", "ndarray") + b"o", "instruction OBJ"),
        (name("numpy", "ndarray") + b"}b", "state for what has none"),
        (b"]}b", "state for what has none"),
        (b"]", None),
        (b"\x82\x01", "instruction EXT1"),
        (b"\x84\x01\x00\x00\x00", "instruction EXT4"),
        (b"Pid\n", "instruction PERSID"),
        (b"K\x01Q", "instruction BINPERSID"),
        (b"\x97", "instruction NEXT_BUFFER"),
        (b"\x8f", "instruction EMPTY_SET"),
        (b"\xff", "instruction ff"),
        (text("x") + b"K\x01\x85R", "a call of what is no function"),
        (name("numpy", "ndarray"), "where data is expected"),
        (dtype("f4"), "where data is expected"),
        (name("_codecs", "encode") + text("x") + text("zlib") + b"\x86R", "refused bytes in the codec zlib"),
    ],
)
def test_instructions_that_data_needs_not(tmp_path, inner, words):
    path = zipped(tmp_path / "a.npz", poses=member(held(inner)))
    if words is None:
        assert read_npz(path) == {"poses": []}
    else:
        refusal(path, words)


# Arrays that lie

BUFFER = name("numpy._core.numeric", "_frombuffer") + b"(" + data(bytes(8))
HUGE = b"J\xff\xff\xff\x7f"


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (RECONSTRUCT + NDARRAY + HUGE + b"\x85" + data(b"b") + b"\x87R", "not numpy.ndarray"),
        (RECONSTRUCT + NDARRAY + b"K\x00K\x00\x86" + data(b"b") + b"\x87R", "not numpy.ndarray"),
        (RECONSTRUCT + name("numpy", "dtype") + b"K\x00\x85" + data(b"b") + b"\x87R", "not numpy.ndarray"),
        (RECONSTRUCT + NDARRAY + b"K\x00\x85" + b"N" + b"\x87R", "not numpy.ndarray"),
        (array(HUGE + b"\x85", dtype("f4"), data(b"1234")), "does not fit the 4 bytes"),
        (array(HUGE + HUGE + HUGE + b"\x87", dtype("f4"), data(b"")), "impossible shape"),
        (array(b"K\x00" + HUGE + HUGE + b"\x87", dtype("f4"), data(b"")), "impossible shape"),
        (array(b"J\xff\xff\xff\xff\x85", dtype("f4"), data(b"")), "impossible shape"),
        (array(HUGE + b"\x85", dtype("S0"), data(b"")), "impossible shape or type"),
        (array(b"K\x01\x85", dtype("V8"), data(bytes(8))), "refused elements of type V8"),
        (array(b"K\x01\x85", dtype("f4,f4"), data(bytes(8))), "refused elements of type f4,f4"),
        (array(b"K\x01\x85", dtype("f4", b"N" + text("a") + b"\x85}"), data(bytes(4))), "structured"),
        (array(b"K\x01\x85", dtype("f4", dtype("f4") + b"K\x02\x85\x86NN"), data(bytes(4))), "structured"),
        (array(b"K\x01\x85", dtype("O8"), b"]Na"), "an object array that holds not one object"),
        (array(b")", dtype("O8"), b"]Na"), "array of Python objects inside"),
        (array(b"K\x01\x85", dtype("f4"), b"]Na"), "array data of type list"),
        (SCALAR + dtype("V2000000000") + data(b"") + b"\x86R", "refused elements of type V2000000000"),
        (SCALAR + dtype("S200000000") + data(b"") + b"\x86R", "does not fit the 0 bytes"),
        (SCALAR + dtype("f8") + data(bytes(9)) + b"\x86R", "does not fit the 9 bytes"),
        (SCALAR + dtype("O8") + data(bytes(8)) + b"\x86R", "array of Python objects inside"),
        (BUFFER + dtype("f8") + b"K\x02\x85" + text("C") + b"tR", "does not fit the 8 bytes"),
        (BUFFER + dtype("O8") + b"K\x01\x85" + text("C") + b"tR", "array of Python objects inside"),
        (BUFFER + dtype("f8") + b"K\x01\x85" + text("?") + b"tR", "unknown order"),
        (BUFFER + dtype("f8") + b"K\x01\x85" + text("K") + b"K\x07\x85tR", "damaged"),
    ],
)
def test_arrays_that_lie_about_themselves(tmp_path, inner, words):
    refusal(zipped(tmp_path / "a.npz", poses=member(held(inner))), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (member(bytes(8), descr="<f4", shape=(10**12,)), "does not fit the 8 bytes"),
        (member(bytes(8), descr="<f4", shape=(3,)), "does not fit the 8 bytes"),
        (member(bytes(8), descr="<f4", shape=(-2,)), "impossible shape"),
        (member(b"", descr="<f4", shape=(0, 2**62, 2**62)), "impossible shape"),
        (member(b"", descr="|S0", shape=(10**12,)), "impossible shape or type"),
        (member(bytes(8), descr=[("x", "<f4"), ("y", "<f4")], shape=(1,)), "refused elements of type"),
        (member(bytes(8), descr="|V8", shape=(1,)), "refused elements of type"),
        (member(bytes(8), descr="<M8[s]", shape=(1,)), "refused elements of type"),
        (member(pickle.dumps(np.array([{}, {}])), shape=(2,)), "Python objects of shape (2,)"),
        (member(held(b"N") + b"more"), "bytes after the end"),
        (member(pickle.dumps({"S1": 1})), "not that of a 0-d object array"),
        (member(held(b"N")[:-1] + b"\x85."), "not that of a 0-d object array"),
        (member(b"\x80\x04N"), "truncated"),
        (member(b"\x80\x06N."), "unknown protocol"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b" " * 0xFFFF, "longer than 4,096"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "longer than 4,096"),
        (b"\x93NUMPY\x03\x00v\x00", "unknown version"),
        (b"\x93NUMPY\x01\x00\x08\x00__import", "damaged"),
        (b"\x93NUMPY\x01\x00\xa0\x0f" + b"(" * 4000, "damaged"),
        (b"PK", "damaged"),
    ],
)
def test_npy_members_that_lie(tmp_path, content, words):
    assert "member poses: " in refusal(zipped(tmp_path / "a.npz", poses=content), words)


# Bombs

LIST_IN_ITSELF = b"]\x94h\x00a"
LAUGHS = b"(]\x94" + b"".join(b"](" + bytes([ord("h"), i]) * 10 + b"e\x94" for i in range(20)) + b"t"
DEEP_KEY = b"})" + b"\x85" * 1_000_000 + b"Ns"
ENCODE = name("_codecs", "encode")
BOMBS = {
    "in itself": (LIST_IN_ITSELF, "inside themselves"),
    "deep lists": (b"]" * 100_000 + b"a" * 99_999, "too deeply nested"),
    "deep tuple as key": (DEEP_KEY, "a dictionary key that is no text"),
    "billion laughs": (LAUGHS, "unfolds to far more"),
    "bytes": (b"\x8e" + struct.pack("<Q", 2**60), "asks for 1,152,921,504,606,846,976 bytes"),
    "bytearray": (b"\x96" + struct.pack("<Q", 2**34), "asks for 17,179,869,184 bytes"),
    "text": (b"X\xff\xff\xff\xff", "asks for 4,294,967,295 bytes"),
    "negative": (b"T\xff\xff\xff\xff", "asks for -1 bytes"),
    "frame": (b"\x95" + struct.pack("<Q", 2**62), "bytes where"),
    "long": (b"\x8b" + HUGE[1:], "instruction LONG4"),
    "nine bytes": (b"\x8a\x09" + bytes(9), "an integer of more than 64 bits"),
    "digits": (b"L" + b"9" * 100_000 + b"L\n", "instruction LONG"),
    "flood": (b"]" * 2_000_001, "more than 2,000,000 pickle instructions"),
    "encoded again and again": (
        b"(" + text("x" * 1_000_000) + b"\x94" + (ENCODE + b"h\x00" + text("latin1") + b"\x86R") * 2000,
        "unfolds to far more",
    ),
    "scalars again and again": (
        b"(" + data(b"x" * 1_000_000) + b"\x94" + (SCALAR + dtype("S1000000") + b"h\x00\x86R") * 2000,
        "unfolds to far more",
    ),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_bombs_are_refused_in_little_memory(tmp_path):
    """Each in turn, in a process that may not take more than a gigabyte, and that a crash would end."""
    for index, (inner, _) in enumerate(BOMBS.values()):
        zipped(tmp_path / f"{index}.npz", zipfile.ZIP_DEFLATED, poses=member(held(inner)))
    zipped(tmp_path / "memo.npz", poses=member(held(b"Nr\xff\xff\xff\x7f")))
    code = (
        "import resource, sys\n"
        "from common.safe_npz import read_npz, UnsafeFileError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "for index in range(int(sys.argv[2])):\n"
        "    try:\n"
        "        print('READ', read_npz(f'{sys.argv[1]}/{index}.npz'))\n"
        "    except UnsafeFileError as error:\n"
        "        print(error)\n"
        "print(read_npz(f'{sys.argv[1]}/memo.npz'))\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path), str(len(BOMBS))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    *lines, memo = done.stdout.splitlines()
    for line, (kind, (_, words)) in zip(lines, BOMBS.items(), strict=True):
        assert words in line, kind
    assert memo == "{'poses': None}", "a high memo index costs nothing here"


def test_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    content = member(bytes(11 * 2**20), descr="|u1", shape=(11 * 2**20,))
    refusal(zipped(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, poses=content), "member poses.npy: unpacks from")
    assert len(read_npz(zipped(tmp_path / "b.npz", poses=content))["poses"]) == 11 * 2**20
    parts = {f"part{index}": member(bytes(2**20), descr="|u1", shape=(2**20,)) for index in range(12)}
    refusal(zipped(tmp_path / "c.npz", zipfile.ZIP_DEFLATED, **parts), "zip bomb")


def test_instructions_of_all_members_together(tmp_path, monkeypatch):
    """A zip packs empty lists by the hundred to a byte: a limit for each member would mean little."""
    path = zipped(tmp_path / "a.npz", a=member(held(b"(" + b"]" * 950 + b"t")), b=member(held(b"]")))
    assert len(read_npz(path)["a"]) == 950
    monkeypatch.setattr(safe_pickle, "MAX_INSTRUCTIONS", 1000)
    assert "member b: " in refusal(path, "more than 1,000 pickle instructions")


def test_limit_of_all_members_together(tmp_path):
    path = zipped(tmp_path / "a.npz", a=pickled(POSES, 4), b=pickled(POSES, 4))
    total = sum(info.file_size for info in zipfile.ZipFile(path).infolist())
    assert len(read_npz(path, max_total=total)) == 2
    with pytest.raises(UnsafeFileError, match=f"more than the limit of {total - 1:,}"):
        read_npz(path, max_total=total - 1)


# Archives


@pytest.mark.parametrize("bad", ["../x.npy", "/x.npy", "a/x.npy", "a\\x.npy", "C:x.npy", "...npy", ".npy"])
def test_member_names_that_could_be_paths(tmp_path, bad):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(bad, pickled({}, 4))
    refusal(tmp_path / "a.npz", "its name could be a path")


def test_member_names_that_zipfile_would_cut(tmp_path):
    path = zipped(tmp_path / "a.npz", **{"poses.npy#": pickled({}, 4)})
    path.write_bytes(path.read_bytes().replace(b"#", b"\0"))
    refusal(path, "its name could be a path")


@pytest.mark.filterwarnings("ignore")
def test_members_that_are_twice_there_or_of_another_kind(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.writestr("poses.npy", pickled({}, 4))
        archive.writestr("poses.npy", pickled({}, 4))
    refusal(tmp_path / "twice.npz", "member poses.npy: a second member of that name")
    with zipfile.ZipFile(tmp_path / "kind.npz", "w") as archive:
        archive.writestr("read\nme.txt", b"hello")
    refusal(tmp_path / "kind.npz", "member 'read\\nme.txt': not an .npy array")
    refusal(zipped(tmp_path / "packed.npz", zipfile.ZIP_BZIP2, poses=pickled({}, 4)), "never uses")


def test_encrypted_members(tmp_path):
    path = zipped(tmp_path / "a.npz", poses=pickled({}, 4))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refusal(path, "encrypted, which no npz file needs")


PLAIN = member(POSES.tobytes(), descr="<f4", shape=(2, 17, 3))


@pytest.mark.parametrize("content", [pickled(POSES, 4), PLAIN])
def test_damage_is_reported_by_member(tmp_path, content):
    path = zipped(tmp_path / "a.npz", poses=content)
    whole = bytearray(path.read_bytes())
    whole[whole.index(POSES.tobytes()) + 50] ^= 1
    path.write_bytes(whole)
    assert "member poses: " in refusal(path, "Bad CRC-32")


def test_truncated_archives(tmp_path):
    whole = zipped(tmp_path / "a.npz", poses=pickled(SUBJECTS, 4)).read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "b.npz").write_bytes(whole[:length])
        refusal(tmp_path / "b.npz", "empty" if length == 0 else "whose end is missing")
    (tmp_path / "b.npz").write_bytes(whole[100:])
    refusal(tmp_path / "b.npz", "damaged")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html>Sign in", "a web page saved in place of the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (member(bytes(4), descr="<f4", shape=(1,)), "a single .npy array"),
        (pickle.dumps({}), "a bare pickle"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"hello", "no npz (zip) file"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, words):
    (tmp_path / "a.npz").write_bytes(content)
    refusal(tmp_path / "a.npz", words)


def test_errors_that_the_rest_of_the_project_knows(tmp_path):
    assert issubclass(UnsafeFileError, ValueError) and issubclass(UnsafeFileError, DataError)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "missing.npz")


# Fuzz

SEED = {"positions_2d": pickled(SUBJECTS, 4), "metadata": pickled(METADATA, 2), "new": pickled(POSES, 5)}
EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3), st.integers(0, 3))
EDITS = st.lists(EDIT, max_size=6)


def edited(content: bytes, edits) -> bytes:
    """Bytes put in place of ``size`` others, at each position given as a fraction of the length."""
    changed = bytearray(content)
    for position, new, size in edits:
        start = int(position * len(changed))
        changed[start : start + size] = new
    return bytes(changed)


def read_or_refused(path: Path) -> None:
    try:
        read_npz(path)
        npz_fingerprint(path)
    except (UnsafeFileError, OSError) as error:
        assert "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None)
@given(edits=EDITS, key=st.sampled_from(sorted(SEED)))
def test_edited_members_are_read_or_refused(tmp_path_factory, edits, key):
    path = tmp_path_factory.getbasetemp() / "member.npz"
    read_or_refused(zipped(path, **{key: edited(SEED[key], edits)}))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None)
@given(edits=EDITS)
def test_edited_files_are_read_or_refused(tmp_path_factory, edits):
    path = zipped(tmp_path_factory.getbasetemp() / "file.npz", metadata=SEED["metadata"], new=SEED["new"])
    path.write_bytes(edited(path.read_bytes(), edits))
    read_or_refused(path)


PIECES = [
    *(bytes([code]) for code in range(256)),
    *(EMPTY, SCALAR, NDARRAY, BUFFER, HUGE, ENCODE, dtype("f4"), dtype("O8"), text("latin1"), data(b"1234")),
    *(array(b"K\x01\x85", dtype("f4"), data(b"1234")), name("os", "mkdir"), name("builtins", "open")),
    *(text("os") + text("mkdir") + b"\x93", text("marker"), b"K\x00", b"\x85R", b"\x86R", b"h\x00", b"q\x00"),
]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25))
def test_random_programs_are_read_or_refused(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "program.npz"
    read_or_refused(zipped(path, poses=member(held(b"".join(pieces)))))
    assert not Path("marker").exists()


# Fingerprint


def test_fingerprint_follows_the_content_and_not_the_file(tmp_path):
    path = zipped(tmp_path / "a.npz", poses=pickled(SUBJECTS, 4), metadata=pickled(METADATA, 4))
    first = npz_fingerprint(path)
    assert len(first) == 64 and int(first, 16) >= 0
    copy = shutil.copy(path, tmp_path / "copy.npz")
    os.utime(copy, (1, 1))
    assert npz_fingerprint(copy) == first
    flipped = pickled(SUBJECTS, 4).replace(POSES[1].tobytes(), (-POSES[1]).tobytes())
    others = {
        "content": {"poses": pickled(SUBJECTS | {"S5": {}}, 4), "metadata": pickled(METADATA, 4)},
        "values": {"poses": flipped, "metadata": pickled(METADATA, 4)},
        "name": {"pose": pickled(SUBJECTS, 4), "metadata": pickled(METADATA, 4)},
        "missing": {"poses": pickled(SUBJECTS, 4)},
    }
    prints = {npz_fingerprint(zipped(tmp_path / f"{key}.npz", **value)) for key, value in others.items()}
    assert len(prints | {first}) == 5


def test_fingerprint_reads_the_directory_alone(tmp_path):
    path = zipped(tmp_path / "a.npz", poses=pickled(POSES, 4))
    first, whole = npz_fingerprint(path), path.read_bytes()
    path.write_bytes(whole.replace(POSES.tobytes(), bytes(POSES.nbytes)))
    assert npz_fingerprint(path) == first
    refusal(path, "Bad CRC-32")


def test_fingerprint_of_other_files_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"<html>")
    with pytest.raises(UnsafeFileError, match="web page"):
        npz_fingerprint(tmp_path / "a.npz")
    assert safe_npz.MAX_TOTAL >= 16 * 2**30
