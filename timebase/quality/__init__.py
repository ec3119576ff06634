"""Is it good: the validator and its rules, stage ③ of the road. Pure except for the actor's two channels."""
