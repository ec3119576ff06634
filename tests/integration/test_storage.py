from timebase.storage.store import Store


async def test_a_fresh_store_knows_no_symbol(store: Store) -> None:
    assert await store.instrument("AAPL") is None
