"""How networks are fed: what of a batch are the arguments of a call, what is its label, and what the answer is."""
