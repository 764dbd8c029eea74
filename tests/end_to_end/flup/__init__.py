"""flup6's own preforked server and this engine, given the same requests."""
