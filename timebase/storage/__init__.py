"""Stage 5: from good batches to durable ones, and back out again. The only importer of asyncpg."""
