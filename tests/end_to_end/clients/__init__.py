"""Every client that speaks FastCGI or SCGI, feature by feature: one module a client, and the page that shows them."""
