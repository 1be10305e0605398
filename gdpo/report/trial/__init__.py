"""The trial: a world's runs packed into two small files, and the answers that all worlds give (docs/protocol.md)."""
