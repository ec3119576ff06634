"""Provider plugins as child processes: found, started, asked, watched, restarted. Raw batches start here (①)."""
