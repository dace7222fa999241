"""Layers with scores, layers of pruned networks, and how one is made of another."""
