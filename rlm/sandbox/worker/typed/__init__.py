"""Python types as JSON schemas, and data as their instances. Standard library only; the host uses it as well."""
