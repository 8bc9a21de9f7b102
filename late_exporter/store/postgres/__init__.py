"""A state in a PostgreSQL database. Nothing outside this package imports psycopg, and it is imported only if needed."""
