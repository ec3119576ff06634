from hypothesis import given
from hypothesis import strategies as st

from timebase.storage.cache import ByteLru


def test_what_was_used_last_stays() -> None:
    cache = ByteLru[str, int](10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 4)
    assert cache.get("a") == 1
    cache.put("c", 3, 4)
    assert cache.get("b") is None
    assert cache.get("a") == 1
    assert (cache.hits, cache.misses, len(cache)) == (2, 1, 2)


def test_what_is_larger_than_the_cache_is_not_held_and_drives_nothing_out() -> None:
    cache = ByteLru[str, int](10)
    cache.put("a", 1, 4)
    cache.put("huge", 2, 11)
    assert cache.get("huge") is None
    assert cache.get("a") == 1


def test_a_value_that_is_replaced_by_one_too_large_is_gone() -> None:
    cache = ByteLru[str, int](10)
    cache.put("a", 1, 4)
    cache.put("a", 2, 11)
    assert cache.get("a") is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans())))
def test_the_bound_holds_and_the_books_balance(moves: list[tuple[int, int, bool]]) -> None:
    cache = ByteLru[int, int](20)
    held: dict[int, int] = {}
    for key, size, is_put in moves:
        if is_put:
            cache.put(key, size, size)
            held[key] = size
        else:
            cache.drop(key)
        assert cache.bytes <= cache.max_bytes
        assert cache.bytes == sum(value for key in held if (value := cache.get(key)) is not None)
