"""Generation: flows advanced by engines that Ray places."""
