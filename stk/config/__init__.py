"""Configuration: frozen dataclasses, strict YAML, dotted overrides."""
