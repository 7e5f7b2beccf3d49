"""The sibling package of the import surface. Connectors have no need of it; tools look here for Logging and PromptMode."""

# That of the surface this package follows, then our own.
__version__ = "2.13.1+inshore.0.0.0"
