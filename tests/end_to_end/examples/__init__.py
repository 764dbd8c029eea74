"""What each application in `examples/` does behind each front-end, and the page that says so."""
