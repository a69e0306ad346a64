"""Features: SQL from clean tables to feature tables, Feast as the store on top, and the online store underneath."""
