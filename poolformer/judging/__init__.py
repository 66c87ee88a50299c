"""Is this mixer any good: protocols, probes, and the page that says it."""
