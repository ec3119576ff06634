"""⑥ From durable batch to followers: the hub, its topics, and what waits for each follower."""
