"""Who wants what live, which provider supplies it, how each feed is, and how gaps heal."""
