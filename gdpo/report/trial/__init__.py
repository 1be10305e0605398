"""The trial: a world's runs packed into three small files, and the answers that all worlds give (docs/protocol.md)."""
