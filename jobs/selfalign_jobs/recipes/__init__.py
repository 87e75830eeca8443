"""One file a recipe: the published method, readable from top to bottom."""
