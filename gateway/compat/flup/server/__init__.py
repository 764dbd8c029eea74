"""flup.server on this engine: fcgi, fcgi_fork, fcgi_single, scgi, scgi_fork."""
