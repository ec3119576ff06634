"""The SQL, one module per table. `conn` comes first and the caller opens the transaction; writes may be repeated."""
