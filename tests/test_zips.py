"""The places of a zip's members: they may touch, and neither overlap nor leave the file."""

import zipfile

import pytest

from tinyddpm.zips import check_members

ROOM = 30 + len("first.npy") + 7  # a local header, a name and seven bytes
SIZE = ROOM + 30 + len("b.npy") + 9


def member(name, offset, packed):
    info = zipfile.ZipInfo(name)
    info.header_offset, info.compress_size = offset, packed
    return info


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "backwards"])
def test_members_may_touch_and_not_overlap(order):
    def members(second):
        return [member("first.npy", 0, 7), member("b.npy", second, 9)][::order]

    check_members(members(ROOM), SIZE)
    with pytest.raises(ValueError, match=r"b\.npy overlaps"):
        check_members(members(ROOM - 1), SIZE)
    with pytest.raises(ValueError, match=f"need {SIZE} bytes, the file has {SIZE - 1}"):
        check_members(members(ROOM), SIZE - 1)


@pytest.mark.parametrize("name", ["first.npy", "b.txt"])
def test_members_are_npy_files_under_different_names(name):
    with pytest.raises(ValueError, match="under different names"):
        check_members([member("first.npy", 0, 7), member(name, ROOM, 9)], SIZE + 9)
