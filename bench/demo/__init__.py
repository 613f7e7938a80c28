"""The demonstration: a real model, a real night, and what changed, in one command (`python -m bench.demo`)."""
