"""Pages of keys: what is written is read, what makes no sense is refused, and the merge is that of a dict and a sort."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.wire.key_page import STORE_KEY_BYTES, KeyPage, KeyPageWriter, merge_pages

LAST = b"\xff" * STORE_KEY_BYTES
# Few distinct ones, so that pages share some and lie close together.
STORE_KEYS = st.integers(0, 40).map(lambda number: number.to_bytes(STORE_KEY_BYTES, "big"))
ENTRIES = st.dictionaries(STORE_KEYS, st.binary(min_size=1, max_size=300), max_size=30)


def entry(store_key: bytes, key: bytes) -> bytes:
    """As docs/protocol.md says it."""
    return store_key + len(key).to_bytes(2, "little") + key


def written(entries: dict[bytes, bytes]) -> bytes:
    page = KeyPageWriter()
    for store_key, key in sorted(entries.items()):
        page.push(store_key, key)
    assert page.count == len(entries)
    assert len(page) == len(bytes(page))
    return bytes(page)


@given(ENTRIES)
def test_a_page_is_its_entries_back_to_back(entries: dict[bytes, bytes]) -> None:
    assert written(entries) == b"".join(entry(*one) for one in sorted(entries.items()))


@given(st.lists(ENTRIES, max_size=5), st.lists(STORE_KEYS, max_size=4))
def test_a_merge_up_to_bounds_and_then_to_the_end_gives_every_key_once(told: list[dict[bytes, bytes]], bounds: list[bytes]) -> None:
    model: dict[bytes, bytes] = {}
    for entries in reversed(told):
        model.update(entries)
    pages = [KeyPage(written(entries), b"", LAST) for entries in told]
    assert merge_pages(pages, b"") == []
    for bound in [*sorted(bounds), None]:
        wanted = [store_key for store_key in sorted(model) if bound is None or store_key <= bound]
        assert merge_pages(pages, bound) == [model.pop(store_key) for store_key in wanted]
        assert [page.told for page in pages] == [not any(bound is not None and one > bound for one in entries) for entries in told]


@given(ENTRIES, st.data())
def test_a_page_cut_anywhere_or_with_an_entry_out_of_order_is_refused(entries: dict[bytes, bytes], data: st.DataObject) -> None:
    page = written(entries)
    whole = {sum(26 + len(key) for _, key in sorted(entries.items())[:count]) for count in range(len(entries) + 1)}
    for cut in range(len(page)):
        if cut not in whole:
            with pytest.raises(ValueError, match=r"cut short|announces"):
                KeyPage(page[:cut], b"", LAST)
    if entries:
        repeated = data.draw(st.sampled_from(sorted(entries)))
        with pytest.raises(ValueError, match="out of order"):
            KeyPage(page + entry(repeated, b"again"), b"", LAST)
        with pytest.raises(ValueError, match="out of order"):
            KeyPage(page, min(entries), LAST)
        if max(entries) != bytes(STORE_KEY_BYTES):
            with pytest.raises(ValueError, match="out of order"):
                KeyPage(page, b"", bytes(STORE_KEY_BYTES))


def test_keys_and_store_keys_have_the_sizes_of_some() -> None:
    for key in (b"", b"k" * 4097):
        with pytest.raises(ValueError, match="a key 1 to 4096"):
            KeyPageWriter().push(LAST, key)
        with pytest.raises(ValueError, match="announces"):
            KeyPage(entry(LAST, key), b"", LAST)
    with pytest.raises(ValueError, match="24 bytes"):
        KeyPageWriter().push(b"short", b"k")
    for after, until in ((b"short", LAST), (b"", b""), (b"", b"short")):
        with pytest.raises(ValueError, match="24 bytes"):
            KeyPage(b"", after, until)
    with pytest.raises(ValueError, match="24 bytes"):
        merge_pages([], b"short")
    with pytest.raises(TypeError):
        merge_pages([b"no page"], None)


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_bytes_are_a_page_or_a_value_error(junk: bytes, spoiled: int) -> None:
    page = written({bytes(23) + bytes([number]): b"key" for number in range(1, 4)})
    for body in (junk, page + junk, page[:spoiled] + junk + page[spoiled:]):
        try:
            merge_pages([KeyPage(body, b"", LAST)], None)
        except ValueError:
            continue
