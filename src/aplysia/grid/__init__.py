"""Training a table: which cells are missing, processes that train them, and what is shown meanwhile."""
