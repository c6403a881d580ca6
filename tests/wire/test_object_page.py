"""Pages of objects: what is written is taken apart again, and what cannot be is refused at every byte."""

import os
import random

import pytest

from dynamo_fast.wire.object_page import ObjectPageWriter, objects_of


def page_of(objects: list[tuple[bytes, bytes, bytes]]) -> bytes:
    page = ObjectPageWriter()
    for bucket, key, packed in objects:
        page.push(bucket, key, packed)
    assert page.count == len(objects)
    assert page.size == sum(len(bucket) + len(key) + len(packed) for bucket, key, packed in objects)
    return bytes(page)


def test_what_is_written_is_found_again() -> None:
    rng = random.Random(5)
    sizes = [(rng.randrange(65), rng.randint(1, 4096), rng.randrange(3000)) for _ in range(50)]
    objects = [(rng.randbytes(bucket), rng.randbytes(key), rng.randbytes(packed)) for bucket, key, packed in sizes]
    assert objects_of(page_of(objects)) == objects
    assert objects_of(b"") == []


def test_the_bytes_are_those_of_the_page_on_the_protocol() -> None:
    assert page_of([(b"shop", b"cart:1", b"\x01\x02")]).hex() == "04" "0600" "02000000" + b"shopcart:1\x01\x02".hex()


def test_a_page_cut_anywhere_but_between_objects_is_refused() -> None:
    objects = [(b"", b"a", b"12"), (b"b", b"key", b"")]
    page = page_of(objects)
    first = len(page_of(objects[:1]))
    for length in range(len(page)):
        if length in (0, first):
            assert len(objects_of(page[:length])) == (length == first)
        else:
            with pytest.raises(ValueError, match="cut short"):
                objects_of(page[:length])


@pytest.mark.parametrize("head", ["41" "0100" "00000000", "00" "0000" "00000000", "00" "0110" "00000000", "00" "0100" "ffffffff"])
def test_announcements_that_cannot_be_are_refused(head: str) -> None:
    with pytest.raises(ValueError, match="announces what cannot be"):
        objects_of(bytes.fromhex(head) + bytes(5000))


def test_noise_never_reads_beyond_its_end() -> None:
    for _ in range(2000):
        noise = os.urandom(random.randrange(64))
        try:
            found = objects_of(noise)
        except ValueError:
            continue
        assert sum(7 + len(bucket) + len(key) + len(packed) for bucket, key, packed in found) == len(noise)


def test_names_of_sizes_that_none_has_are_not_written() -> None:
    page = ObjectPageWriter()
    for bucket, key in ((bytes(65), b"k"), (b"", b""), (b"", bytes(4097))):
        with pytest.raises(ValueError, match="a key has"):
            page.push(bucket, key, b"")
    assert page.count == 0
