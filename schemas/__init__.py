"""The vocabulary every folder shares: rows, data set rows, recipes, manifests."""
