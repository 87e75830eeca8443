"""What runs in the pods, and on one machine: recipes, generation, training, evaluation, report."""
