"""Run by Alembic: migrate on the connection, and in the transaction, that `screening.store.migrate` hands over."""

from alembic import context

from screening.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=True
)
context.run_migrations()
