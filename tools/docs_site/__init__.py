"""The documentation as a site: what mkdocs does not do by itself. Not part of the wheel."""
