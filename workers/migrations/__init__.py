"""The database's history, one file a step; `workers.database` runs them."""
