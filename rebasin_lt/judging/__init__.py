"""How good a network's answers are: by a loss that has a name, a function of the user's, or its own validation step."""
