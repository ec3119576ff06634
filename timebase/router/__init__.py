"""Who answers: stage ② of the road. Pure ranking, budgets and circuits; `router.py` puts them to work."""
