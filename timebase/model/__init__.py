"""What data is: pure values, no I/O, no trio. Everything else imports from here; this imports nothing of ours."""
