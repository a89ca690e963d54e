"""Pages of figures: the report of an evaluation, and that of an audit."""
