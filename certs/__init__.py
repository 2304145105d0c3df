"""Identities: TLS contexts, signing keys and the development authority."""
