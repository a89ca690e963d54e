"""Alembic's migrations of the results store; `screening.store.migrate` runs them."""
