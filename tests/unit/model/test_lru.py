from timebase.model.lru import ByteLru


def test_the_longest_unused_makes_room() -> None:
    cache: ByteLru[str, str] = ByteLru(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 4)
    cache.get("a")
    cache.put("c", "C", 4)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), cache.bytes) == ("A", None, "C", 8)


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache: ByteLru[str, str] = ByteLru(10)
    cache.put("a", "A", 4)
    cache.put("big", "B", 11)
    assert (cache.get("a"), cache.get("big")) == ("A", None)


def test_a_value_put_again_counts_once() -> None:
    cache: ByteLru[str, str] = ByteLru(10)
    for size in (4, 6, 3):
        cache.put("a", "A", size)
    assert (cache.bytes, len(cache)) == (3, 1)
